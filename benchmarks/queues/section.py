"""The queue beside PgQueuer and Procrastinate, turn by turn, on one server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from statistics import median

from rich.console import Console

from benchmarks.figures import Line, Round, Target, WrongResultError, bounded, compared, percentile
from benchmarks.queues import bare
from benchmarks.queues.databases import Opened, opened
from benchmarks.queues.ours import OurQueue
from benchmarks.queues.pgqueuer import PgQueuerQueue
from benchmarks.queues.procrastinate import ProcrastinateQueue
from benchmarks.queues.workers import drained, working
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack
from luma_memory.worker.claimer import CLAIM_MAX

BULK = 1_000
# Procrastinate fetches and ends each job by a commit of its own, whatever is waiting.
SINGLE_SHARE = 20
PAUSE_SECONDS = (0.02, 0.06)
STATS_MS_MAX = 5.0
STATS_CALLS = 50
FILL_ROWS = 1_000_000
PGQUEUER_BATCH = 10  # its default
_WARM_CLAIMS = 20
_HIGHER, _LOWER = Target(1.0, "high"), Target(1.0, "low")

Figures = Mapping[str, Sequence[float]]  # by name of the queue, turn by turn


async def compare(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """Enqueueing, throughput, pick-up, claims before many rows; then our statistics."""
    ours = OurQueue()
    async with _all_opened(stack, ours) as queues:
        lines = [
            *await _enqueueing(queues, sizes),
            *await _throughput(queues, sizes),
            *await _pickup(queues, sizes),
            *await _claims(queues, sizes),
        ]
        lines.append(await _statistics(ours, sizes))
    return lines


@asynccontextmanager
async def _all_opened(stack: Stack, ours: OurQueue) -> AsyncIterator[Sequence[Opened]]:
    async with AsyncExitStack() as open_queues:
        yield [
            await open_queues.enter_async_context(opened(stack.dsn, queue))
            for queue in (ours, PgQueuerQueue(), ProcrastinateQueue())
        ]


async def _enqueueing(queues: Sequence[Opened], sizes: Sizes) -> Sequence[Line]:
    _say("enqueueing")
    single: dict[str, list[float]] = {one.name: [] for one in queues}
    bulk: dict[str, list[float]] = {one.name: [] for one in queues}
    bulk_calls = max(sizes.queue_enqueues // 10, 2)
    for number in range(sizes.rounds + 1):
        for calls, jobs, rates in ((sizes.queue_enqueues, 1, single), (bulk_calls, BULK, bulk)):
            measured = await _enqueued(queues, calls=calls, jobs=jobs)
            if number > 0:  # the first one warms up
                for name, rate in measured.items():
                    rates[name].append(rate)
    return [
        *_lines("enqueue_single", "enqueue, one by one", single, "jobs/s", _HIGHER),
        *_lines("enqueue_bulk", f"enqueue, {BULK:,} a call", bulk, "jobs/s", _HIGHER),
    ]


async def _enqueued(queues: Sequence[Opened], *, calls: int, jobs: int) -> Mapping[str, float]:
    """Jobs a second of each queue, their calls turn by turn."""
    seconds = {one.name: 0.0 for one in queues}
    for one in queues:
        await one.queue.clear()
    for _ in range(calls):
        for one in queues:
            started = time.perf_counter()
            await one.queue.enqueue(jobs)
            seconds[one.name] += time.perf_counter() - started
    for one in queues:
        if await one.queue.open_jobs() != calls * jobs:
            raise WrongResultError(f"{one.name} lost enqueued jobs")
    return {name: calls * jobs / spent for name, spent in seconds.items()}


async def _throughput(queues: Sequence[Opened], sizes: Sizes) -> Sequence[Line]:
    rates: dict[str, list[float]] = {one.name: [] for one in queues}
    limits: list[float] = []
    for number in range(sizes.rounds):
        _say(f"jobs that do nothing, round {number + 1} of {sizes.rounds}")
        for one in queues:
            jobs = sizes.queue_jobs // (SINGLE_SHARE if one.queue.claim_max == 1 else 1)
            await _given(one, jobs)
            rates[one.name].append(await drained(one, jobs))
        ours = queues[0]
        await _given(ours, sizes.queue_jobs)
        limits.append(
            await bare.jobs_per_second(ours.dsn, batch=CLAIM_MAX, warm=sizes.queue_jobs // 10)
        )
    return [
        *_lines("queue_rate", "jobs that do nothing, 1 worker", rates, "jobs/s", _HIGHER),
        compared(
            "queue_rate_bare",
            "  the same beside bare SQL",
            [Round(*pair) for pair in zip(rates[queues[0].name], limits, strict=True)],
            unit="jobs/s",
            limit_name=f"claim and complete by {CLAIM_MAX}, plain SQL",
            target=Target(0.7, "high"),
        ),
    ]


async def _given(one: Opened, jobs: int) -> None:
    await one.queue.clear()
    for first in range(0, jobs, BULK):
        await one.queue.enqueue(min(BULK, jobs - first))


async def _pickup(queues: Sequence[Opened], sizes: Sizes) -> Sequence[Line]:
    """From the answer that a job is committed to its handler's call, workers idle."""
    _say("pick-up")
    dice = random.Random(60)
    waits: dict[str, list[float]] = {one.name: [] for one in queues}
    async with AsyncExitStack() as running:
        workers = []
        for one in queues:
            await one.queue.clear()
            worker = await running.enter_async_context(working(one, every=1))
            workers.append((one, worker))
        for number in range(-2, sizes.queue_pickups):
            for one, worker in workers:
                await asyncio.sleep(dice.uniform(*PAUSE_SECONDS))
                await one.queue.enqueue(1)
                committed = time.monotonic_ns()
                call = await worker.next_call()
                if number >= 0:  # the first ones wait until the worker has started
                    waits[one.name].append((call.at_ns - committed) / 1e6)
    return [
        *_percentile_lines("queue_pickup", "pick-up, idle worker", waits, 50),
        *_percentile_lines("queue_pickup", "pick-up, idle worker", waits, 99),
    ]


async def _claims(queues: Sequence[Opened], sizes: Sizes) -> Sequence[Line]:
    lines: list[Line] = []
    filled = 0
    for one in queues:
        await one.queue.clear()
    for depth in sizes.queue_depths:
        for one in queues:
            _say(f"{one.name}: {depth:,} waiting and {depth:,} completed jobs")
            await one.queue.fill(pending=depth - filled, completed=depth - filled)
        filled = depth
        key, what = f"queue_claim_{depth}", f"claim, {depth:,} waiting"
        one_each = await _claimed(queues, sizes.queue_claims, batch=1)
        lines += _percentile_lines(key, f"{what}, 1 job", one_each, 99)
        many = [one for one in queues if one.queue.claim_max > 1]
        ten_each = await _claimed(many, sizes.queue_claims, batch=PGQUEUER_BATCH)
        lines += _percentile_lines(
            f"{key}_by_{PGQUEUER_BATCH}", f"{what}, {PGQUEUER_BATCH} jobs", ten_each, 99
        )
    for one in queues:
        await one.queue.clear()
    return lines


async def _claimed(queues: Sequence[Opened], count: int, *, batch: int) -> Figures:
    """Milliseconds of each claim; what was claimed is completed before the next turn."""
    times: dict[str, list[float]] = {one.name: [] for one in queues}
    for number in range(-_WARM_CLAIMS, count):
        for one in queues:
            started = time.perf_counter()
            claimed = await one.queue.claim(batch)
            spent = (time.perf_counter() - started) * 1000
            if len(claimed) != batch:
                raise WrongResultError(f"{one.name} claimed {len(claimed)} jobs of {batch}")
            await one.queue.complete(claimed)
            if number >= 0:
                times[one.name].append(spent)
    return times


async def _statistics(ours: OurQueue, sizes: Sizes) -> Line:
    rows = sizes.queue_completed
    for first in range(0, rows, FILL_ROWS):
        _say(f"completed jobs for the statistics: {first:,} of {rows:,}")
        await ours.fill_completed(min(FILL_ROWS, rows - first))
    times = []
    for _ in range(STATS_CALLS):
        started = time.perf_counter()
        row = await ours.database.fetch_row("SELECT * FROM get_memory_job_stats()")
        times.append((time.perf_counter() - started) * 1000)
        if row is None or row["completed"] != rows:
            raise WrongResultError(f"of {rows} completed jobs: {row}")
    return bounded(
        "queue_stats_p99",
        f"get_memory_job_stats(), {rows:,} completed, p99",
        percentile(times, 99),
        unit="ms",
        limit=STATS_MS_MAX,
        limit_name="promise",
        note=f"p50 {median(times):.2f} ms",
    )


def _percentile_lines(key: str, what: str, times: Figures, percent: float) -> Sequence[Line]:
    figures = {name: [percentile(values, percent)] for name, values in times.items()}
    return _lines(f"{key}_p{percent:g}", f"{what}, p{percent:g}", figures, "ms", _LOWER)


def _lines(key: str, what: str, figures: Figures, unit: str, target: Target) -> Sequence[Line]:
    """Ours, which come first, beside each of the others."""
    line = partial(compared, unit=unit, target=target)
    (_, ours), *others = figures.items()
    return [
        line(
            f"{key}_{name.lower()}",
            what,
            [Round(*pair) for pair in zip(ours, theirs, strict=True)],
            limit_name=name,
        )
        for name, theirs in others
    ]


def _say(what: str) -> None:
    Console(stderr=True).print(f"  {what}", style="dim", highlight=False)
