"""Partitions of one server beside one partition: accepting, searching, claiming, idling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Final

import psutil
from pydantic import SecretStr

from benchmarks.accept import ATTEMPTS_MAX, CLIENTS
from benchmarks.chat import turns
from benchmarks.client import Address, Connection, closed_loop, connections, expect, post
from benchmarks.figures import Line, Round, Target, WrongResultError, bounded, compared
from benchmarks.inputs import block_request, stored_items
from benchmarks.processor import database_process, processor_seconds
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, api_process, child_process, waited_for
from luma_memory.bootstrap.database import migrate_database
from luma_memory.bootstrap.partitions import Partitions
from luma_memory.bootstrap.parts import make_presence, make_queue
from luma_memory.bootstrap.placement import Placement, open_placement
from luma_memory.domain.block import Accepted, IngestItem
from luma_memory.postgres.database import Database
from luma_memory.settings import Settings
from luma_memory.store.blocks import PostgresBlockStore

USERS: Final = 256
CLAIM_USERS: Final = 50
# Jobs that one claim takes: the default of concurrent jobs.
CLAIMED: Final = 5
IDLE_SHARE_MAX: Final = 2.0
LEASE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Spread:
    """An installation of its own on the server that is measured."""

    count: int
    dsn: str
    api: Address


async def partitions(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """8 and 64 partitions beside one, in databases of their own; rounds of both in turn.

    The one partition is a new one each time: the blocks of the last comparison would be repeated
    there, which leads to no job, and its users would have more blocks than the others'.
    """
    lines: list[Line] = []
    for count in sizes.partitions:
        async with _databases(stack, count) as (one_dsn, many_dsn):
            async with _spread(1, one_dsn) as one, _spread(count, many_dsn) as many:
                lines += await _accepting(one, many, sizes)
                lines += await _searching(one, many, sizes)
            lines += await _claiming(one, many, sizes)
            lines += await _idling(stack, many, sizes)
    return lines


async def _accepting(one: Spread, many: Spread, sizes: Sizes) -> Sequence[Line]:
    rates: list[Round] = []
    async with connections(one.api, 1) as (plain,), connections(many.api, 1) as (spread,):
        rounds = [
            await _round_of_one(plain, spread, sizes.accepts, seed=60 + number)
            for number in range(sizes.rounds + 1)
        ]
    async with connections(one.api, CLIENTS) as plain, connections(many.api, CLIENTS) as spread:
        for number in range(sizes.rounds + 1):
            requests = [
                block_request(turn, f"user-{n % USERS}", n)
                for n, turn in enumerate(turns(sizes.loads, seed=80 + number))
            ]
            limit = await closed_loop(plain, requests, 202)
            value = await closed_loop(spread, requests, 202)
            rates.append(Round(value.per_second, limit.per_second))
    return [
        compared(
            f"partitions_{many.count}_accept_p50",
            f"accept, {many.count} partitions, 1 client, p50",
            rounds[1:],
            unit="ms",
            limit_name="1 partition",
            target=Target(1.1, "low"),
        ),
        compared(
            f"partitions_{many.count}_accept_rate",
            f"accept, {many.count} partitions, {CLIENTS} clients",
            rates[1:],
            unit="blocks/s",
            limit_name="1 partition",
            target=Target(0.9, "high"),
        ),
    ]


async def _round_of_one(plain: Connection, spread: Connection, count: int, *, seed: int) -> Round:
    of_one: list[float] = []
    of_many: list[float] = []
    for n, turn in enumerate(turns(count, seed=seed)):
        request = block_request(turn, f"user-{n % USERS}", n)
        calls = [(plain, of_one), (spread, of_many)]
        for client, durations in calls if n % 2 else reversed(calls):
            response = (await closed_loop([client], [request], 202)).responses[0]
            durations.append(response.duration_ms)
    return Round(median(of_many), median(of_one))


async def _searching(one: Spread, many: Spread, sizes: Sizes) -> Sequence[Line]:
    rounds: list[Round] = []
    async with connections(one.api, 1) as (plain,), connections(many.api, 1) as (spread,):
        for number in range(sizes.rounds + 1):
            of_one: list[float] = []
            of_many: list[float] = []
            for n, turn in enumerate(turns(sizes.questions, seed=90 + number)):
                body = {"user_id": f"user-{n % USERS}", "query": turn.content[:100]}
                request = post("/search", body)
                calls = [(plain, of_one), (spread, of_many)]
                for client, durations in calls if n % 2 else reversed(calls):
                    response = await client.ask(request)
                    expect(response, 200)
                    durations.append(response.duration_ms)
            rounds.append(Round(median(of_many), median(of_one)))
    return [
        compared(
            f"partitions_{many.count}_search_p50",
            f"search, {many.count} partitions, 1 client, p50",
            rounds[1:],
            unit="ms",
            limit_name="1 partition",
            target=Target(1.1, "low"),
        )
    ]


async def _claiming(one: Spread, many: Spread, sizes: Sizes) -> Sequence[Line]:
    """Jobs a second that one worker claims and completes, CLAIMED at a time."""
    rounds = []
    for number in range(sizes.rounds + 1):
        limit = await _claims_per_second(one, sizes.loads, seed=100 + number)
        value = await _claims_per_second(many, sizes.loads, seed=100 + number)
        rounds.append(Round(value, limit))
    return [
        compared(
            f"partitions_{many.count}_claim_rate",
            f"claim and complete, {many.count} partitions",
            rounds[1:],
            unit="jobs/s",
            limit_name="1 partition",
            target=Target(0.9, "high"),
        )
    ]


async def _claims_per_second(spread: Spread, jobs: int, *, seed: int) -> float:
    async with _placement(spread) as placement:
        queue = make_queue(placement, None)
        presence = make_presence(placement, queue, "worker-benchmark")
        await presence.start(running=lambda: 0, on_signal=lambda: None)
        await _complete(placement, 100, None)  # those that accepting left
        store = placement.store(
            lambda partition: PostgresBlockStore(partition, attempts_max=ATTEMPTS_MAX)
        )
        for n, items in enumerate(_of_users(jobs, seed=seed)):
            outcomes = await store.ingest(items, lease=None)
            if wrong := [one for one in outcomes if not _is_new(one)]:
                raise WrongResultError(f"batch {n}: {wrong[0]}")
        started = time.perf_counter()
        completed = await _complete(placement, CLAIMED, jobs // CLAIM_USERS * CLAIM_USERS)
        seconds = time.perf_counter() - started
        await presence.stop()
    if completed != jobs // CLAIM_USERS * CLAIM_USERS:
        raise WrongResultError(f"{jobs} jobs were enqueued, {completed} completed")
    return completed / seconds


def _is_new(outcome: Accepted | Exception) -> bool:
    """Whether it has a job of its own."""
    return isinstance(outcome, Accepted) and outcome.created and outcome.repeats is None


def _of_users(jobs: int, *, seed: int) -> Sequence[Sequence[IngestItem]]:
    """Blocks of many users, who are spread over the partitions."""
    each = jobs // CLAIM_USERS
    return [
        stored_items(turns(each, seed=seed * 1_000 + user), f"user-{user}-{seed}")
        for user in range(CLAIM_USERS)
    ]


async def _complete(placement: Placement, limit: int, jobs: int | None) -> int:
    """Claim and complete so many jobs, or all there are; how many that were."""
    queue = make_queue(placement, None)
    completed, empty = 0, 0
    while empty < 3 and completed != jobs:
        claimed = await queue.claim(
            "worker-benchmark",
            limit=limit,
            lease=LEASE,
            job_types=["enrich_and_embed"],
            rescue=False,
        )
        if claimed:
            completed += sum(await queue.complete("worker-benchmark", claimed))
            empty = 0
        else:
            empty += 1
            await asyncio.sleep(0.11)
    return completed


async def _idling(stack: Stack, spread: Spread, sizes: Sizes) -> Sequence[Line]:
    """Processor time of a worker with nothing to do, and of the server meanwhile."""
    server = await database_process(stack)
    async with child_process("worker", "luma_memory.worker", spread.dsn, {}) as child:
        database = Database(spread.dsn, pool_size=1)
        statement = "SELECT id FROM memory_workers WHERE process_id = $1"
        await waited_for(lambda: database.fetch(statement, child.pid))
        await database.close()
        await asyncio.sleep(sizes.idle_seconds / 4)
        worker = psutil.Process(child.pid)
        before, of_server = processor_seconds(worker), processor_seconds(server)
        await asyncio.sleep(sizes.idle_seconds)
        seconds = processor_seconds(worker) - before
        server_seconds = processor_seconds(server) - of_server
    return [
        bounded(
            f"partitions_{spread.count}_idle",
            f"idle worker, {spread.count} empty partitions",
            seconds / sizes.idle_seconds * 100,
            unit="% of a core",
            limit=IDLE_SHARE_MAX,
            limit_name="promise",
            note=f"server {server_seconds / sizes.idle_seconds * 100:.2f} %",
        )
    ]


@asynccontextmanager
async def _databases(stack: Stack, count: int) -> AsyncIterator[tuple[str, str]]:
    """The addresses of an installation with one partition, and of one with so many."""
    names = (f"one_beside_{count}", f"partitions_{count}")
    for name in names:
        await stack.database.execute(f"CREATE DATABASE {name}")
    one, many = (stack.dsn.replace("/luma_memory?", f"/{name}?") for name in names)
    for dsn in (one, many):
        await migrate_database(Settings(database_url=SecretStr(dsn)), dsn)
    database = Database(many, pool_size=1)
    done = await Partitions(database).create(count, "luma_p")
    await database.close()
    if errors := [partition.error for partition in done if partition.error is not None]:
        raise WrongResultError(str(errors[0]))
    yield one, many
    for name in names:
        await stack.database.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def _spread(count: int, dsn: str) -> AsyncIterator[Spread]:
    """With an API."""
    async with api_process(dsn, {}, {"MEMORY_AUTH_DISABLED": "true"}) as api:
        yield Spread(count, dsn, api)


@asynccontextmanager
async def _placement(spread: Spread) -> AsyncIterator[Placement]:
    async with AsyncExitStack() as stack:
        database = Database(spread.dsn, pool_size=8)
        stack.push_async_callback(database.close)
        await database.open()
        placement = await open_placement(database)
        if placement.places is not None:
            stack.push_async_callback(placement.places.close)
        yield placement
