"""Lists of the console at 10,000 users and 100,000 blocks, and what keeping history costs."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median
from typing import Any
from urllib.parse import urlencode

import psutil

from benchmarks.accept import CLIENTS
from benchmarks.chat import turns
from benchmarks.client import Connection, closed_loop, connections, expect, get
from benchmarks.figures import Line, Target, WrongResultError, bounded
from benchmarks.inputs import block_request
from benchmarks.processor import database_process, processor_seconds
from benchmarks.server import HISTORY_PATH, HISTORY_TIMES
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, api_process
from luma_memory.domain.clock import SystemClock
from luma_memory.pipeline.accounts.keys import Keys
from luma_memory.pipeline.history.recording import STORE_SECONDS
from luma_memory.store.keys import PostgresKeyStore

BLOCKS_EACH = 10
PAGE = 50
LIST_MS_MAX = 300.0
# One in a hundred of the blocks, and some twenty of all.
COMMON = {"source": "mail", "NOT": {"metadata.team": "blue"}}
RARE = {"tags": "rare"}
_USERS = """
INSERT INTO memory_users (project_id, user_id, last_ingest_at, active_hour, created_at)
SELECT $1, 'user-' || n, at, date_trunc('hour', at, 'UTC'), at
FROM (SELECT n, now() - random() * interval '30 days' AS at
      FROM generate_series(1, $2::int) AS n) AS u
"""
# Ids rise with time, as those of the service do; the blocks of all users are interleaved.
_BLOCKS = """
INSERT INTO memory_blocks (project_id, id, user_id, content, session_id, source, tags, metadata,
                           occurred_at, content_hash, status, enrichment)
SELECT $1, (lpad(to_hex(1700000000000 + b.n::bigint * 10000 + u.n), 12, '0') || '7'
        || substr(md5(b.n || '-' || u.n), 1, 19))::uuid,
       'user-' || u.n, 'Note ' || b.n || ' of user ' || u.n || repeat(' about the garden', 10),
       'session-' || b.n % 3, CASE WHEN (b.n * 7 + u.n) % 100 < 2 THEN 'mail' ELSE 'chat' END,
       CASE WHEN u.n % greatest($2::int / 20, 1) = 0
            AND b.n = 1 + u.n / greatest($2::int / 20, 1) % $3 THEN ARRAY['rare'] ELSE '{}' END,
       jsonb_build_object('team', CASE WHEN u.n % 2 = 0 THEN 'blue' ELSE 'red' END),
       now() - random() * interval '30 days', sha256(convert_to(b.n || '-' || u.n, 'UTF8')),
       'active', 'local'
FROM generate_series(1, $3::int) AS b (n), generate_series(1, $2::int) AS u (n)
ORDER BY b.n, u.n
"""


async def lists(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """Pages of users of a small and of a large project in turn, and of filtered blocks."""
    few, many = sizes.list_users
    small, large = await _filled(stack, "small", few), await _filled(stack, "large", many)
    async with stack.api_with_keys() as address, connections(address, 1) as (client,):
        of_few, of_many = [], []
        for number in range(sizes.list_reads):
            # Both pages are full: a page of a few users would be no limit for one of 50.
            prefix = f"user-{number % 9 + 1}"
            of_few.append(await _duration_ms(client, _users(number, "user-"), small, "users"))
            of_many.append(await _duration_ms(client, _users(number, prefix), large, "users"))
        of_common, of_rare = [], []
        for _ in range(sizes.list_reads):
            of_common.append(await _duration_ms(client, _blocks(COMMON), large, "blocks"))
            of_rare.append(await _duration_ms(client, _blocks(RARE), large, "blocks"))
    await stack.clear()
    lines = [
        Line(
            "users_p50",
            f"GET /users, {PAGE} of {many:,} users, p50",
            median(of_many),
            "ms",
            limit=median(of_few),
            limit_name=f"of {few:,} users",
            ratio=median(of_many) / median(of_few),
            target=Target(1.5, "low"),
        )
    ]
    for name, durations in (("common", of_common), ("rare", of_rare)):
        lines.append(
            bounded(
                f"blocks_{name}_filter_p50",
                f"GET /blocks, {name} filter, {many * BLOCKS_EACH:,} blocks, p50",
                median(durations),
                unit="ms",
                limit=LIST_MS_MAX,
                limit_name="promise",
            )
        )
    return lines


async def history(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """The part of the processor time of accepting that history takes, in one process and one run.

    Two runs with and without history differ by several hundredths on a shared machine, whatever
    they have in common. Of storing, the time of the database and of the request that triggers it
    counts as well; of accepting, that of the API's process alone.
    """
    variables = {HISTORY_TIMES: "1", "MEMORY_AUTH_DISABLED": "true"}
    per_round = [_accepted(sizes.loads, number) for number in range(sizes.rounds + 1)]
    async with (
        api_process(stack.dsn, {}, variables) as address,
        connections(address, CLIENTS) as clients,
    ):
        await closed_loop(clients, per_round[0], 202)
        before, started = await _store_history(clients[0]), time.perf_counter()
        for requests in per_round[1:]:
            await closed_loop(clients, requests, 202)
        seconds, after = time.perf_counter() - started, await _store_history(clients[0])
        processes = psutil.Process(address.process_id), await database_process(stack)
        often = await _spent(processes, lambda: _store_history(clients[0]), sizes.list_reads)

        async def begin_minute() -> None:
            await stack.database.execute("DELETE FROM memory_history")
            await _store_history(clients[0])

        once = await _spent(processes, begin_minute, sizes.list_reads)
    await stack.clear()
    process = after["process_seconds"] - before["process_seconds"]
    counting = after["counting_seconds"] - before["counting_seconds"]
    storing = (often * (60 / STORE_SECONDS - 1) + once) / 60 * seconds
    accepted = sizes.rounds * sizes.loads
    return [
        bounded(
            "history_share",
            f"cost of history, {CLIENTS} clients",
            (counting + storing) / process * 100,
            unit="% of accepting",
            limit=1.0,
            limit_name="promise",
            note=f"{counting / accepted * 1e6:.2f} of {process / accepted * 1e6:,.0f} µs of"
            f" processor a request at {accepted / seconds:,.0f} requests/s; {often * 1000:.2f} ms"
            f" every {STORE_SECONDS:.0f} s, {once * 1000:.2f} ms once a minute",
        )
    ]


async def _spent(
    processes: Sequence[psutil.Process], step: Callable[[], Awaitable[object]], times: int
) -> float:
    """Processor seconds that a step takes in some processes."""
    before = sum(map(processor_seconds, processes))
    for _ in range(times):
        await step()
    return (sum(map(processor_seconds, processes)) - before) / times


def _accepted(count: int, number: int) -> Sequence[bytes]:
    """Requests to accept blocks, others in every round."""
    return [
        block_request(turn, f"user-{at % CLIENTS}", number * count + at)
        for at, turn in enumerate(turns(count, seed=400 + number))
    ]


async def _store_history(client: Connection) -> Mapping[str, float]:
    """Store what the process counted. Returns processor seconds since its start."""
    response = await client.ask(get(HISTORY_PATH))
    expect(response, 200)
    times: Mapping[str, float] = response.json()
    return times


def _users(number: int, prefix: str) -> str:
    """The first page, and that of a prefix which more users have than fit, in turn."""
    return "/users?" + urlencode({"limit": PAGE, **({"prefix": prefix} if number % 2 else {})})


def _blocks(filters: Mapping[str, Any]) -> str:
    return "/blocks?" + urlencode({"limit": PAGE, "filters": json.dumps(filters)})


async def _duration_ms(client: Connection, path: str, key: str, name: str) -> float:
    response = await client.ask(get(path, key=key))
    expect(response, 200)
    if not response.json()[name]:
        raise WrongResultError(f"the list of {name} is empty")
    return response.duration_ms


async def _filled(stack: Stack, project_id: str, users: int) -> str:
    """A key of a project with so many users."""
    await stack.database.execute(_USERS, project_id, users)
    await stack.database.execute(_BLOCKS, project_id, users, BLOCKS_EACH)
    await stack.database.execute("VACUUM ANALYZE memory_users, memory_blocks")
    keys = Keys(PostgresKeyStore(stack.database), clock=SystemClock())
    return (await keys.create({"read"}, project_id=project_id))[1]
