"""Accepting blocks: one client, one client beside a busy worker, and 64 clients."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

from benchmarks.chat import turns
from benchmarks.client import Connection, closed_loop, connections
from benchmarks.figures import Line, Round, Target, WrongResultError, bounded, compared, percentile
from benchmarks.inputs import block_request, stored_item, stored_items
from benchmarks.server import PARSE_PATH
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, waited_for
from luma_memory.domain.block import IngestItem
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.scope import DEFAULT_PROJECT
from luma_memory.pipeline.accounts.keys import Keys
from luma_memory.postgres.database import Database
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.keys import PostgresKeyStore

CLIENTS = 64
ATTEMPTS_MAX = 3
BUSY_MS_MAX = 100.0


async def one_client(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """One client, one request after the other, against the bare statement."""
    async with connections(stack.api, 1) as (client,):
        await _round_of_one(stack, client, sizes.accepts, seed=0)  # plans, caches, connections
        rounds = [
            await _round_of_one(stack, client, sizes.accepts, seed=number)
            for number in range(1, sizes.rounds + 1)
        ]
    await _check_stored(stack, 2 * sizes.accepts * (sizes.rounds + 1))
    await stack.clear()
    return [
        compared(
            "accept_p50_one_client",
            "accept, 1 client, p50",
            rounds,
            unit="ms",
            limit_name="the same SQL statement bare",
            target=Target(3.0, "low"),
        )
    ]


async def _round_of_one(stack: Stack, client: Connection, count: int, *, seed: int) -> Round:
    """Both ways turn by turn, so that what disturbs one disturbs the other."""
    some = turns(count, seed=seed)
    accepted, bare = [], []
    async with stack.database.connection() as connection:
        for number, turn in enumerate(some):
            request = block_request(turn, "by-http", number)
            statement = await captured_ingest([stored_item(turn, "by-sql", number)])
            response = (await closed_loop([client], [request], 202)).responses[0]
            accepted.append(response.duration_ms)
            started = time.perf_counter()
            await connection.fetch(statement.text, *statement.values)
            bare.append((time.perf_counter() - started) * 1000)
    return Round(median(accepted), median(bare))


async def with_keys(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """One client at two API processes, one that asks for keys and one that does not."""
    keys = Keys(PostgresKeyStore(stack.database), clock=SystemClock())
    _, key = await keys.create({"ingest"}, project_id=DEFAULT_PROJECT)
    async with (
        stack.api_with_keys() as address,
        connections(address, 1) as (guarded,),
        connections(stack.api, 1) as (plain,),
    ):
        rounds = [
            await _round_of_keys(guarded, plain, key, sizes.accepts, seed=40 + number)
            for number in range(sizes.rounds + 1)
        ]
    await _check_stored(stack, 2 * sizes.accepts * (sizes.rounds + 1))
    await stack.clear()
    return [
        compared(
            "accept_p50_keys",
            "accept, 1 client, keys on, p50",
            rounds[1:],
            unit="ms",
            limit_name="keys off",
            target=Target(1.1, "low"),
        )
    ]


async def _round_of_keys(
    guarded: Connection, plain: Connection, key: str, count: int, *, seed: int
) -> Round:
    """Alternate both clients and which is first: they share one database."""
    with_key: list[float] = []
    without: list[float] = []
    for number, turn in enumerate(turns(count, seed=seed)):
        calls = [
            (guarded, block_request(turn, "with-key", number, key=key), with_key),
            (plain, block_request(turn, "without-key", number), without),
        ]
        for client, request, durations in calls if number % 2 else reversed(calls):
            response = (await closed_loop([client], [request], 202)).responses[0]
            durations.append(response.duration_ms)
    return Round(median(with_key), median(without))


async def beside_busy_worker(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """One client while the worker has thousands of blocks before it."""
    store = PostgresBlockStore(stack.database, attempts_max=ATTEMPTS_MAX)
    async with stack.worker():
        await store.ingest(stored_items(turns(sizes.backlog, seed=11), "backlog"), lease=None)
        await _wait_until_begun(stack)
        requests = [
            block_request(turn, "waiting", number)
            for number, turn in enumerate(turns(sizes.accepts_busy, seed=12))
        ]
        async with connections(stack.api, 1) as clients:
            load = await closed_loop(clients, requests, 202)
        left = await stack.database.fetch_row(
            "SELECT count(*) AS jobs FROM memory_jobs WHERE status = 'pending'"
        )
    assert left is not None
    if left["jobs"] == 0:
        raise WrongResultError("the worker was done before the client: the backlog is too small")
    await stack.clear()
    durations = [response.duration_ms for response in load.responses]
    return [
        bounded(
            "accept_p99_busy_worker",
            "accept, 1 client, worker busy, p99",
            percentile(durations, 99),
            unit="ms",
            limit=BUSY_MS_MAX,
            limit_name="promise",
            note=f"p50 {median(durations):.2f} ms, {len(durations)} requests",
        )
    ]


async def many_clients(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """64 clients, each a user of its own, against a route that only parses."""
    rounds, client_seconds, accepted = [], 0.0, 0
    async with connections(stack.api, CLIENTS) as clients:
        for number in range(sizes.rounds + 1):
            parse = _requests(sizes.loads, seed=20 + number, path=PARSE_PATH)
            accept = _requests(sizes.loads, seed=20 + number, path="/blocks")
            limit = await closed_loop(clients, parse, 202)
            value = await closed_loop(clients, accept, 202)
            accepted += len(value.responses)
            client_seconds += value.client_seconds
            if number > 0:  # the first one warms both up
                rounds.append(Round(value.per_second, limit.per_second))
    await _check_stored(stack, accepted)
    blocks_per_statement = await _blocks_per_statement(stack)
    await stack.clear()
    return [
        compared(
            "accept_rate_64_clients",
            f"accept, {CLIENTS} clients",
            rounds,
            unit="blocks/s",
            limit_name="same body parsed, no database",
            target=Target(0.5, "high"),
        ),
        Line(
            "accept_blocks_per_statement",
            f"coalescing at {CLIENTS} clients",
            blocks_per_statement,
            "blocks/statement",
        ),
        Line(
            "client_cost",
            "processor time of the measuring client",
            client_seconds / accepted * 1e6,
            "µs/request",
        ),
    ]


def _requests(count: int, *, seed: int, path: str) -> Sequence[bytes]:
    return [
        block_request(turn, f"user-{number % CLIENTS}", number, path=path)
        for number, turn in enumerate(turns(count, seed=seed))
    ]


async def _blocks_per_statement(stack: Stack) -> float:
    """Rows of one transaction carry its number."""
    row = await stack.database.fetch_row(
        "SELECT count(*)::float8 / count(DISTINCT xmin::text) AS blocks FROM memory_blocks"
    )
    assert row is not None
    return float(row["blocks"])


async def _check_stored(stack: Stack, expected: int) -> None:
    row = await stack.database.fetch_row(
        "SELECT (SELECT count(*) FROM memory_blocks) AS blocks,"
        " (SELECT count(*) FROM memory_jobs WHERE status = 'pending') AS jobs"
    )
    if row is None or (row["blocks"], row["jobs"]) != (expected, expected):
        raise WrongResultError(f"{expected} blocks were accepted, there are {row}")


async def _wait_until_begun(stack: Stack) -> None:
    statement = "SELECT 1 FROM memory_jobs WHERE status = 'completed' LIMIT 1"
    await waited_for(lambda: stack.database.fetch(statement))


@dataclass(frozen=True, slots=True)
class Statement:
    text: str
    values: Sequence[Any]


class _Capture:
    """Stands where the database does and keeps what the store would send it."""

    def __init__(self) -> None:
        self.statement: Statement | None = None

    async def fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        self.statement = Statement(statement, values)
        return []


async def captured_ingest(items: Sequence[IngestItem]) -> Statement:
    """The statement that stores these items, with its arrays, not sent yet."""
    capture = _Capture()
    store = PostgresBlockStore(cast("Database", capture), attempts_max=ATTEMPTS_MAX)
    await store.ingest(items, lease=None)
    assert capture.statement is not None
    return capture.statement
