"""The worker: blocks a second against the bare embedder; how soon it begins when idle."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import asyncpg
import psutil

from benchmarks.accept import ATTEMPTS_MAX
from benchmarks.chat import Turn, turns
from benchmarks.client import Connection, connections, expect
from benchmarks.figures import Line, Round, Target, WrongResultError, bounded, compared, percentile
from benchmarks.inputs import block_request, stored_items
from benchmarks.processor import database_process, processor_seconds
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, waited_for
from luma_memory.pipeline.ingest.indexing import embedding_text
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.store.blocks import PostgresBlockStore

WARM_UP_BLOCKS = 30
# Jobs at once for which the target holds: what docs/settings.md names for a backlog.
BACKLOG_JOBS = 128
PICKUP_MS_MAX = 50.0
PAUSE_SECONDS_MAX = 0.1
_POLL_SECONDS = 0.25


async def throughput(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """A backlog from its first claim to its last block active, at the default concurrency first."""
    embedder = await LocalEmbedder.open()
    lines: list[Line] = []
    try:
        await embedder.embed_documents(_texts(turns(WARM_UP_BLOCKS, seed=30), embedder))
        for jobs in (None, *sizes.concurrencies):
            lines += _lines(await _rounds(stack, embedder, sizes, jobs), jobs)
    finally:
        await embedder.close()
    return lines


@dataclass(frozen=True, slots=True)
class _Pace:
    """How fast, and how much of the processors it took."""

    per_second: float
    processor_ms: float  # a block or a text


@dataclass(frozen=True, slots=True)
class _Round:
    worker: _Pace
    bare: _Pace
    windows_ms: float | None  # processor time a block, after the last block was active


def _lines(rounds: Sequence[_Round], jobs: int | None) -> Iterator[Line]:
    key = "default" if jobs is None else f"{jobs}_jobs"
    what = "worker" if jobs is None else f"worker, {jobs} jobs at once"
    yield compared(
        f"worker_rate_{key}",
        what,
        [Round(one.worker.per_second, one.bare.per_second) for one in rounds],
        unit="blocks/s",
        limit_name="bare embedder, same texts",
        target=Target(0.8, "high") if jobs == BACKLOG_JOBS else None,
    )
    yield compared(
        f"worker_processor_{key}",
        f"  {what}: processor time a block",
        [Round(one.worker.processor_ms, one.bare.processor_ms) for one in rounds],
        unit="ms",
        limit_name="bare embedder, a text",
        target=None,
    )
    if windows := [one.windows_ms for one in rounds if one.windows_ms is not None]:
        yield Line(
            f"worker_windows_processor_{key}",
            f"  {what}: windows afterwards, processor time a block",
            median(windows),
            "ms",
        )


async def _rounds(
    stack: Stack, embedder: LocalEmbedder, sizes: Sizes, jobs: int | None
) -> Sequence[_Round]:
    """Worker and bare embedder, one right after the other on the same texts.

    The windows of the sessions are made after the blocks, and waited for before the next round; how
    many jobs run at once makes no difference to them, so that they are measured only once.
    """
    rounds = []
    database = await database_process(stack)
    async with stack.worker(concurrent_jobs_max=jobs) as worker_id:
        processes = (psutil.Process(worker_id), database)
        await drained(stack, turns(WARM_UP_BLOCKS, seed=31))
        await idle(stack)
        for number in range(sizes.rounds):
            some = turns(sizes.jobs, seed=40 + number)
            bare = await _embedded(embedder, _texts(some, embedder))
            before = sum(map(processor_seconds, processes))
            per_second = await drained(stack, some)
            active = sum(map(processor_seconds, processes))
            if jobs is not None:
                await stack.database.execute("DELETE FROM memory_jobs WHERE status = 'pending'")
            await idle(stack)
            after = sum(map(processor_seconds, processes))
            rounds.append(
                _Round(
                    _Pace(per_second, (active - before) / len(some) * 1000),
                    bare,
                    None if jobs else (after - active) / len(some) * 1000,
                )
            )
    await stack.clear()
    return rounds


def _texts(some: Sequence[Turn], embedder: LocalEmbedder) -> Sequence[str]:
    """What the worker embeds of these turns."""
    return [
        embedding_text(turn.content[passage.start : passage.stop], embedder, speaker=turn.speaker)
        for turn, item in zip(some, stored_items(some, "embedded"), strict=True)
        for passage in item.passages
    ]


async def _embedded(embedder: LocalEmbedder, texts: Sequence[str]) -> _Pace:
    started, cpu = time.perf_counter(), time.process_time()
    await embedder.embed_documents(texts)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return _Pace(len(texts) / seconds, cpu_seconds / len(texts) * 1000)


async def drained(stack: Stack, some: Sequence[Turn]) -> float:
    """Blocks a second, by the database's own clock."""
    store = PostgresBlockStore(stack.database, attempts_max=ATTEMPTS_MAX)
    before = await _last_job(stack)
    await store.ingest(stored_items(some, "worked-off"), lease=None)
    done = await waited_for(lambda: _finished(stack, before), every_seconds=_POLL_SECONDS)
    if done["completed"] != len(some) or done["active"] != len(some):
        raise WrongResultError(f"of {len(some)} blocks: {dict(done)}")
    return len(some) / float(done["seconds"])


async def idle(stack: Stack) -> None:
    """Until no job is left, of any kind."""

    async def none_left() -> bool:
        stats = await stack.database.fetch_row("SELECT * FROM get_memory_job_stats()")
        assert stats is not None
        return bool(stats["pending"] + stats["processing"] == 0)

    await waited_for(none_left, every_seconds=_POLL_SECONDS)


async def _last_job(stack: Stack) -> int:
    row = await stack.database.fetch_row("SELECT coalesce(max(id), 0) AS id FROM memory_jobs")
    assert row is not None
    return int(row["id"])


async def _finished(stack: Stack, after_job: int) -> asyncpg.Record | None:
    """How the jobs ended; None while one has not.

    The first check ends at the first open job: counting thousands four times a second would take
    from what is measured.
    """
    if await stack.database.fetch_row(
        "SELECT FROM memory_jobs WHERE status IN ('pending', 'processing')"
        " AND job_type = 'enrich_and_embed' AND id > $1 LIMIT 1",
        after_job,
    ):
        return None
    row = await stack.database.fetch_row(
        "SELECT count(*) FILTER (WHERE j.status IN ('pending', 'processing')) AS open,"
        " count(*) FILTER (WHERE j.status = 'completed') AS completed,"
        " count(*) FILTER (WHERE b.status = 'active' AND b.enrichment = 'local') AS active,"
        " extract(epoch FROM max(j.finished_at) - min(j.started_at))::float8 AS seconds"
        " FROM memory_jobs AS j JOIN memory_blocks AS b ON b.project_id = j.project_id"
        " AND b.user_id = j.user_id AND b.id = j.block_id WHERE j.id > $1",
        after_job,
    )
    assert row is not None
    return row if row["open"] == 0 else None


async def idle_worker(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """Single blocks, each posted when the one before is active, some at once, some after a pause.

    The pauses keep the posts from falling into step with anything periodic in the service.
    """
    dice = random.Random(50)
    times = []
    async with stack.worker(), connections(stack.api, 1) as (client,):
        await drained(stack, turns(WARM_UP_BLOCKS, seed=51))
        for number, turn in enumerate(turns(sizes.pickups, seed=52)):
            times.append(await _posted(stack, client, block_request(turn, "idle", number)))
            if number % 2:
                await asyncio.sleep(dice.uniform(0, PAUSE_SECONDS_MAX))
    await stack.clear()
    pickups = [row["pickup_ms"] for row in times]
    return [
        bounded(
            "pickup_p99",
            "pick-up by an idle worker, p99",
            percentile(pickups, 99),
            unit="ms",
            limit=PICKUP_MS_MAX,
            limit_name="promise",
            note=f"p50 {median(pickups):.2f} ms, {len(pickups)} blocks",
        ),
        Line(
            "active_p50_idle_worker",
            "accepted to active, idle worker, p50",
            median(row["active_ms"] for row in times),
            "ms",
            note=f"p99 {percentile([row['active_ms'] for row in times], 99):.1f} ms",
        ),
    ]


async def _posted(stack: Stack, client: Connection, request: bytes) -> asyncpg.Record:
    """The job's times, once it is completed."""
    response = await client.ask(request)
    expect(response, 202)
    job_id = response.json()["job_id"]
    rows = await waited_for(lambda: stack.database.fetch(_TIMES, job_id), every_seconds=0.002)
    return rows[0]


_TIMES = """
SELECT extract(epoch FROM started_at - created_at)::float8 * 1000 AS pickup_ms,
       extract(epoch FROM finished_at - created_at)::float8 * 1000 AS active_ms
FROM memory_jobs WHERE id = $1 AND status = 'completed'
"""
