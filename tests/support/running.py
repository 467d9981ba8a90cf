"""A worker in this process, on a real database, with models from luma_memory.testing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from luma_memory.domain.block import Accepted, Block, NewBlock
from luma_memory.domain.clock import Clock, SystemClock
from luma_memory.domain.job import Handler, JobType
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.enrichment.backfill import Backfill
from luma_memory.pipeline.enrichment.enrich import EnrichBlock
from luma_memory.pipeline.enrichment.reembed import Reembedding, ReembedScope
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.pipeline.enrichment.session_windows import SessionWindows, with_windows
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.pipeline.knowledge.relate import DetectRelations
from luma_memory.pipeline.knowledge.summarize import Summaries
from luma_memory.ports.jobs import JobQueue
from luma_memory.ports.models import Embedder, Enricher, Relator, Summarizer
from luma_memory.ports.vector_models import VectorModels
from luma_memory.postgres.database import Database
from luma_memory.providers.completion.local_relations import LocalRelator
from luma_memory.providers.completion.local_summary import LocalSummarizer
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.session import WorkerSession, new_worker_id
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.summaries import PostgresSummaryStore
from luma_memory.store.users import PostgresUserStore
from luma_memory.telemetry.events import Emit, WorkerStarting
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import QuotingEnricher, WordEmbedder
from luma_memory.testing.sample_blocks import ingest_item, new_block
from luma_memory.worker.worker import Worker, WorkerTimes

LEASE = timedelta(minutes=5)


@dataclass
class Plan:
    """How a test's worker is made; the defaults finish jobs at once."""

    enricher: Enricher | None = field(default_factory=QuotingEnricher)
    embedder: Embedder | None = field(default_factory=WordEmbedder)
    fallback: Enricher | None = None
    fail_fast: bool | None = None  # None: only without a fallback
    can_wait: bool = True
    clock: Clock = field(default_factory=SystemClock)  # of `enrich_and_embed`
    paused_wait: timedelta = timedelta(0)
    spending: Spending | None = None
    backfill: Backfill | None = None
    scope_embedders: ScopeEmbedders | None = None
    reembedding: Reembedding | None = None
    reembed_store: VectorModels | None = None
    provider_timeout: timedelta | None = None
    job_timeout: timedelta | None = None
    windows: SessionWindows | None = None
    relator: Relator | None = None
    relation_limit: int = 1_000
    summarizer: Summarizer | None = None
    handlers: Mapping[JobType, Handler] | None = None
    queue: JobQueue | None = None
    timeout: timedelta = timedelta(seconds=60)
    backoff: timedelta = timedelta(milliseconds=10)
    poll_interval: timedelta = timedelta(milliseconds=100)
    concurrent_jobs_max: int = 5


@dataclass
class Running:
    """A running worker."""

    worker_id: str
    events: EventLog
    stop: asyncio.Event
    task: asyncio.Task[None]
    bugs: list[BaseException]

    async def finish(self) -> None:
        self.stop.set()
        await self.task


@asynccontextmanager
async def working(database: Database, plan: Plan | None = None) -> AsyncIterator[Running]:
    """Run a worker until the block ends; it has started when the block begins."""
    plan = plan or Plan()
    worker_id, events, bugs = new_worker_id(), EventLog(), list[BaseException]()
    queue = plan.queue or PostgresJobQueue(database)
    runner = JobRunner(
        queue,
        plan.handlers or _handlers(database, plan, worker_id, events),
        worker_id=worker_id,
        timeout=plan.timeout,
        backoff=plan.backoff,
        record_timeout=timedelta(seconds=60),
        clock=SystemClock(),
        emit=events,
        report_bug=lambda _message, error: bugs.append(error),
    )
    worker = Worker(
        queue,
        PostgresQueueUpkeep(database),
        runner,
        WorkerSession(database, worker_id, slots=plan.concurrent_jobs_max),
        backfill=plan.backfill,
        reembedding=plan.reembedding,
        concurrent_jobs_max=plan.concurrent_jobs_max,
        times=WorkerTimes(
            lease=LEASE, poll=plan.poll_interval, backfill=timedelta(milliseconds=100)
        ),
        clock=SystemClock(),
        emit=events,
    )
    stop = asyncio.Event()
    running = Running(worker_id, events, stop, asyncio.create_task(worker.run(stop)), bugs)
    try:
        await events.wait_for(WorkerStarting)
        yield running
    finally:
        await running.finish()


def _handlers(
    database: Database, plan: Plan, worker_id: str, emit: Emit
) -> Mapping[JobType, Handler]:
    handlers: dict[JobType, Handler] = {
        "enrich_and_embed": _handler(database, plan, worker_id, emit)
    }
    if plan.reembed_store is not None and plan.embedder is not None:
        handlers["reembed"] = ReembedScope(
            plan.reembed_store,
            embedder=plan.embedder,
            model_id=plan.embedder.model.id,
            slice_=plan.timeout / 2,
            clock=SystemClock(),
            spending=plan.spending,
        )
    if plan.relator is not None:
        handlers["detect_relations"] = DetectRelations(
            PostgresRelationStore(database),
            relator=plan.relator,
            fallback=LocalRelator() if plan.fallback else None,
            limit=plan.relation_limit,
            spending=plan.spending,
            worker_id=worker_id,
            clock=SystemClock(),
            emit=emit,
        )
    if plan.summarizer is not None:
        handlers["weekly_summary"] = Summaries(
            PostgresSummaryStore(database),
            PostgresUserStore(database),
            summarizer=plan.summarizer,
            fallback=LocalSummarizer() if plan.fallback else None,
            spending=plan.spending,
            worker_id=worker_id,
            clock=SystemClock(),
            emit=emit,
        )
    if plan.windows is not None:
        vectors = handlers.get("reembed", plan.windows)
        handlers["reembed"] = with_windows(plan.windows, vectors)
    return handlers


def _handler(database: Database, plan: Plan, worker_id: str, emit: Emit) -> Handler:
    return EnrichBlock(
        PostgresBlockStore(database, attempts_max=3, relates=plan.relator is not None),
        worker_id=worker_id,
        enricher=plan.enricher,
        embedder=plan.embedder,
        fallback=plan.fallback,
        fail_fast=plan.fail_fast if plan.fail_fast is not None else plan.fallback is None,
        clock=plan.clock,
        emit=emit,
        can_wait=plan.can_wait,
        paused_wait=plan.paused_wait,
        spending=plan.spending,
        scope_embedders=plan.scope_embedders,
        provider_timeout=plan.provider_timeout,
        job_timeout=plan.job_timeout,
        windows=plan.windows,
    )


async def ingest(database: Database, *blocks: NewBlock, attempts_max: int = 3) -> list[Accepted]:
    """Accept the blocks (or one sample) as the API does; raises the first item's error."""
    items = [ingest_item(block) for block in blocks or [new_block()]]
    outcomes = await PostgresBlockStore(database, attempts_max=attempts_max).ingest(
        items, lease=None
    )
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Accepted)]


async def read(database: Database, block: NewBlock, block_id: UUID) -> Block:
    """The block as it is stored now."""
    (stored,) = await PostgresBlockStore(database, attempts_max=3).read([(block.scope, block_id)])
    assert stored is not None
    return stored


async def job_row(connection: asyncpg.Connection, job_id: int) -> dict[str, Any]:
    """The job as it is stored now, with its due time and its lease relative to now."""
    row = await connection.fetchrow("SELECT * FROM memory_jobs WHERE id = $1", job_id)
    assert row is not None
    return dict(row)
