"""Lists of the console at 10,000 users and 100,000 blocks, and what keeping history costs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any
from urllib.parse import urlencode

import psutil

from benchmarks.accept import CLIENTS
from benchmarks.chat import turns
from benchmarks.client import Connection, closed_loop, connections, expect, get
from benchmarks.figures import Line, Target, WrongResultError, bounded
from benchmarks.inputs import block_request
from benchmarks.processor import processor_seconds
from benchmarks.server import WITHOUT_HISTORY
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, api_process
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.scope import DEFAULT_PROJECT
from luma_memory.pipeline.accounts.keys import Keys
from luma_memory.pipeline.history.recording import STORE_SECONDS
from luma_memory.store.history import PostgresHistory
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.telemetry.events import RequestHandled
from luma_memory.telemetry.history import HistoryCounts

BLOCKS_EACH = 10
PAGE = 50
LIST_MS_MAX = 300.0
HISTORY_ROUNDS = 4
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
            of_few.append(await _duration_ms(client, _users(number), small, "users"))
            of_many.append(await _duration_ms(client, _users(number), large, "users"))
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
    """The share of a process's time that history takes while 64 clients store blocks.

    Counting is timed by itself: against the noise of two runs, a hundredth cannot be seen.
    """
    requests = [
        block_request(turn, f"user-{number % CLIENTS}", number)
        for number, turn in enumerate(turns(sizes.loads, seed=31))
    ]
    async with connections(stack.api, CLIENTS) as clients:
        per_second = (await closed_loop(clients, requests, 202)).per_second
    counts = HistoryCounts()
    event, repeats = RequestHandled("POST", "/blocks", 202, 3.7), 20_000
    started = time.perf_counter()
    for _ in range(repeats):
        counts(event)
    count_seconds = (time.perf_counter() - started) / repeats
    store, stored = PostgresHistory(stack.database), []
    for _ in range(sizes.list_reads):
        started = time.perf_counter()
        await store.add(counts.take() or {"requests": 1, "accept_ms:3": 1}, {})
        stored.append(time.perf_counter() - started)
    await stack.clear()
    measured = await _measured_history(stack, sizes)
    share = count_seconds * per_second + median(stored) / STORE_SECONDS
    return [
        bounded(
            "history_share",
            f"cost of history, {CLIENTS} clients",
            share * 100,
            unit="% of accepting",
            limit=1.0,
            limit_name="promise",
            note=f"{count_seconds * 1e6:.2f} µs a request at {per_second:,.0f} requests/s,"
            f" {median(stored) * 1000:.2f} ms every {STORE_SECONDS:.0f} s",
        ),
        measured,
    ]


async def _measured_history(stack: Stack, sizes: Sizes) -> Line:
    """Processor time of a request in a process that keeps history and in one that does not.

    In turns and by the processor's time, because two rates on one machine differ by more than the
    hundredth that is looked for. The median of the rounds' ratios.
    """
    # Another section may have made keys, and then a new process asks for one.
    keys = Keys(PostgresKeyStore(stack.database), clock=SystemClock())
    _, key = await keys.create({"ingest"}, project_id=DEFAULT_PROJECT)
    per_request: dict[bool, list[float]] = {True: [], False: []}
    async with (
        api_process(stack.dsn, {}, {}) as with_history,
        api_process(stack.dsn, {}, {WITHOUT_HISTORY: "1"}) as without,
    ):
        for number in range(HISTORY_ROUNDS * sizes.rounds + 1):
            requests = [
                block_request(turn, f"user-{at % CLIENTS}", at, key=key)
                for at, turn in enumerate(turns(sizes.loads, seed=400 + number))
            ]
            for keeps in (True, False) if number % 2 else (False, True):
                address = with_history if keeps else without
                process = psutil.Process(address.process_id)
                async with connections(address, CLIENTS) as clients:
                    before = processor_seconds(process)
                    await closed_loop(clients, requests, 202)
                    spent = processor_seconds(process) - before
                # Of the second process the blocks are repeats, which cost less: they start anew.
                await stack.clear()
                if number > 0:  # the first round warms both
                    per_request[keeps].append(spent / len(requests))
    ratios = [a / b for a, b in zip(per_request[True], per_request[False], strict=True)]
    extra = (median(ratios) - 1) * 100
    spent_with, spent_without = median(per_request[True]), median(per_request[False])
    low, high = (min(ratios) - 1) * 100, (max(ratios) - 1) * 100
    return bounded(
        "history_measured",
        f"cost of history, {CLIENTS} clients, measured",
        extra,
        unit="% of accepting",
        limit=1.0,
        limit_name="promise",
        note=f"{spent_with * 1e6:,.0f} and {spent_without * 1e6:,.0f} µs of processor a request,"
        f" {len(ratios)} rounds from {low:+.1f} to {high:+.1f} %",
    )


def _users(number: int) -> str:
    """The first page, and pages of a prefix, in turn."""
    prefix = {"prefix": f"user-{number % 9 + 1}"} if number % 2 else {}
    return "/users?" + urlencode({"limit": PAGE, **prefix})


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
