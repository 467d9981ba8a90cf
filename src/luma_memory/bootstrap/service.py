"""The whole service of one process: Settings in, live objects out, closed in reverse order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from luma_memory import __version__
from luma_memory.bootstrap.database import ProcessKind, database_address, open_database
from luma_memory.bootstrap.parts import (
    attempts_max,
    job_control,
    key_ring,
    looks_for_relations,
    make_cache,
    make_erasing,
    make_reembedding,
    make_relation_detection,
    make_serving,
    make_spending,
    make_summaries,
    make_windows,
    usage_reports,
    uses_relations,
)
from luma_memory.bootstrap.providers import (
    open_providers,
    provider_timeout,
)
from luma_memory.bootstrap.tracing import tracing
from luma_memory.domain.clock import Clock, SystemClock
from luma_memory.insights import Insights
from luma_memory.pipeline.accounts.key_ring import KeyRing
from luma_memory.pipeline.accounts.usage import UsageReports
from luma_memory.pipeline.accounts.users import Users
from luma_memory.pipeline.context.context import Contexts
from luma_memory.pipeline.context.context_cache import ContextCache
from luma_memory.pipeline.context.hit_counter import HitCounter
from luma_memory.pipeline.enrichment.backfill import Backfill
from luma_memory.pipeline.enrichment.enrich import EnrichBlock
from luma_memory.pipeline.enrichment.reembed import Reembedding, ReembedScope
from luma_memory.pipeline.enrichment.session_windows import with_windows
from luma_memory.pipeline.ingest.archiving import Archiving
from luma_memory.pipeline.ingest.block_reader import Blocks
from luma_memory.pipeline.ingest.editing import Editing
from luma_memory.pipeline.ingest.erasing import Erasing
from luma_memory.pipeline.ingest.ingest import Ingest
from luma_memory.pipeline.jobs.disabled_step import DisabledStep
from luma_memory.pipeline.jobs.job_control import Jobs
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.pipeline.knowledge.relate import Relations
from luma_memory.pipeline.knowledge.summarize import Summaries
from luma_memory.pipeline.recall.calibration import Calibrations
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.ports.circuits import CircuitFault
from luma_memory.ports.idempotency import ResponseStore
from luma_memory.ports.jobs import JobQueue, QueueUpkeep, WorkerPresence
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import (
    schema_is_current,
)
from luma_memory.protocol.cursors import Cursors
from luma_memory.providers.completion.extract.question import LocalQuestionReader
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.session import WorkerSession, live_worker_count, new_worker_id
from luma_memory.queue.signal import Notifier
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.settings import Settings, unknown_variables
from luma_memory.store.archive import PostgresArchive
from luma_memory.store.backfill import PostgresBackfillStore
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.cache_ledger import PostgresCacheLedger
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.edits import PostgresBlockEditor
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.responses import PostgresResponseStore
from luma_memory.store.scope_versions import PostgresScopeVersions
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.secrets import shared_secrets
from luma_memory.store.users import PostgresUserStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.telemetry.events import Emit, Event, Notice
from luma_memory.telemetry.logs import log_event, log_failure
from luma_memory.telemetry.metrics import Metrics

# A worker that answers late has this long before its job goes to another one.
LEASE_MARGIN = timedelta(seconds=10)
# How long the end of a job is tried to be written down: somebody waits for the API's.
_SETTLE_PATIENCE: Mapping[ProcessKind, timedelta] = {
    "api": timedelta(seconds=2),
    "worker": timedelta(minutes=10),
}


@dataclass(frozen=True, slots=True)
class Service:
    """Everything one process works with."""

    settings: Settings
    clock: Clock
    emit: Emit
    ingest: Ingest
    blocks: Blocks
    recall: Recall
    contexts: Contexts
    insights: Insights
    jobs: Jobs
    relations: Relations
    summaries: Summaries | None  # None while weekly summaries are switched off
    users: Users
    keys: KeyRing
    editing: Editing
    erasing: Erasing
    archiving: Archiving
    responses: ResponseStore
    cursors: Cursors
    queue: JobQueue
    upkeep: QueueUpkeep
    runner: JobRunner
    presence: WorkerPresence
    lease: timedelta
    provider_names: Mapping[str, str]  # "enrichment" and "embedding" to what does it
    backfill: Backfill
    reembedding: Reembedding | None  # None while embedding is switched off
    usage: UsageReports
    circuits: PostgresCircuits
    metrics: Metrics


@asynccontextmanager
async def open_service(settings: Settings, *, kind: ProcessKind) -> AsyncIterator[Service]:
    """Connect everything; the API's and the worker's processes are made of the same parts.

    Raises SetupError (also when the schema is missing: see `open_database`) and StoreUnavailable.
    """
    clock, metrics = SystemClock(), Metrics()

    def emit(event: Event) -> None:
        log_event(event)
        metrics(event)

    for notice in _notices(settings):
        emit(notice)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(tracing(settings, kind, emit))
        dsn = await stack.enter_async_context(database_address(settings))
        database = await open_database(dsn, settings, stack, kind)
        worker_id = new_worker_id(kind)
        store = PostgresBlockStore(
            database, attempts_max=attempts_max(settings), relates=looks_for_relations(settings)
        )
        queue = PostgresJobQueue(database)
        cache = make_cache(settings, clock, emit)
        stack.push_async_callback(cache.close)
        circuits = PostgresCircuits(database)
        providers = await open_providers(settings, circuits, cache, clock)
        stack.push_async_callback(providers.close)
        vectors = PostgresVectorModels(database)
        serving = await make_serving(providers, settings, vectors, circuits, clock)
        if serving is not None:
            stack.push_async_callback(serving.close)
        spending = make_spending(settings, database, clock)
        if spending is not None:
            stack.push_async_callback(spending.close)
        backfill = Backfill(PostgresBackfillStore(database), circuits=providers.circuits)
        if kind == "worker":
            await _offer_backfill(backfill, emit)
        windows = make_windows(settings, database, providers, serving, spending, clock)
        relation_store = PostgresRelationStore(database)
        relations = make_relation_detection(
            settings, relation_store, providers, spending, worker_id, clock, emit
        )
        users = PostgresUserStore(database)
        summaries = make_summaries(database, users, providers, spending, worker_id, clock, emit)
        runner = JobRunner(
            queue,
            {
                "enrich_and_embed": EnrichBlock(
                    store,
                    worker_id=worker_id,
                    enricher=providers.enricher,
                    embedder=providers.embedder,
                    fallback=providers.fallback,
                    fail_fast=settings.fail_fast,
                    clock=clock,
                    emit=emit,
                    can_wait=settings.worker_enabled,
                    paused_wait=timedelta(milliseconds=settings.worker_job_timeout_ms),
                    provider_timeout=provider_timeout(settings),
                    spending=spending,
                    scope_embedders=serving,
                    windows=windows,
                    concurrent_writes=2 if settings.has_completion_provider else 1,
                ),
                "reembed": with_windows(
                    windows,
                    ReembedScope(
                        vectors,
                        embedder=providers.embedder,
                        model_id=providers.embedding_model_id or "",
                        slice_=timedelta(milliseconds=settings.worker_job_timeout_ms) / 2,
                        clock=clock,
                        spending=spending,
                    ),
                ),
                "detect_relations": relations or DisabledStep("MEMORY_RELATIONS_ENABLED"),
                "weekly_summary": summaries or DisabledStep("MEMORY_WEEKLY_SUMMARIES_ENABLED"),
            },
            worker_id=worker_id,
            timeout=timedelta(milliseconds=settings.worker_job_timeout_ms),
            backoff=timedelta(milliseconds=settings.retry_backoff_ms),
            record_timeout=_SETTLE_PATIENCE[kind],
            clock=clock,
            emit=emit,
            report_bug=log_failure,
            was_away_since=database.was_away_since,
        )
        notifier = Notifier(database)
        stack.push_async_callback(notifier.stop)
        presence = WorkerSession(database, worker_id)
        stack.push_async_callback(presence.stop)
        lease = timedelta(milliseconds=settings.worker_job_timeout_ms) + LEASE_MARGIN
        ingest = Ingest(
            store,
            clock=clock,
            signal=notifier,
            run_job=runner.run,
            worker_id=worker_id,
            lease=lease,
            attempts_max=attempts_max(settings),
        )
        stack.push_async_callback(ingest.close)
        secrets = await shared_secrets(database)
        keys = key_ring(database, settings, clock)
        stack.push_async_callback(keys.close)
        reader = LocalQuestionReader(clock)
        if kind == "api":
            reader.warm()
        calibrations = Calibrations(vectors)
        stack.push_async_callback(calibrations.close)
        recall = Recall(
            PostgresSearchStore(database),
            store,
            embedder=providers.embedder,
            serving=serving,
            reader=reader,
            calibrations=calibrations,
            threshold=settings.similarity_threshold,
            reranker=providers.reranker,
            relations=relation_store if uses_relations(settings) else None,
            spending=spending,
            users=users,
            emit=emit,
        )
        hits = HitCounter(PostgresCacheLedger(database), clock=clock, emit=emit)
        stack.push_async_callback(hits.close)
        context_cache = ContextCache(
            cache,
            PostgresScopeVersions(database),
            ttl=timedelta(seconds=settings.cache_ttl_seconds),
            counter=hits,
            clock=clock,
            emit=emit,
            local_bytes_max=settings.cache_memory_mb << 20 if settings.redis_url else 0,
        )
        contexts = Contexts(
            recall,
            context_cache,
            synthesizer=providers.synthesizer,
            tokens=providers.tokens,
            # Every setting that changes what recall finds.
            configuration=(
                __version__,
                providers.vectors_name,
                settings.similarity_threshold,
                providers.reranker.name if providers.reranker is not None else None,
                uses_relations(settings),
            ),
            emit=emit,
            spending=spending,
        )
        stack.push_async_callback(contexts.close)
        yield Service(
            settings=settings,
            clock=clock,
            emit=emit,
            ingest=ingest,
            blocks=Blocks(store),
            recall=recall,
            contexts=contexts,
            insights=Insights(
                queue,
                _Probe(database, circuits, providers.circuits),
                cache=cache,
                hits=hits,
                clock=clock,
                system_enabled=settings.system_enabled,
                worker_enabled=settings.worker_enabled,
                is_warming=lambda: reader.is_warming,
            ),
            jobs=Jobs(job_control(database, settings), queue, signal=notifier),
            relations=Relations(relation_store),
            summaries=summaries,
            users=Users(users),
            keys=keys,
            editing=Editing(
                PostgresBlockEditor(database, attempts_max=attempts_max(settings)),
                store,
                signal=notifier,
            ),
            erasing=make_erasing(database, secrets, clock, context_cache),
            archiving=Archiving(PostgresArchive(database), embedder=providers.embedder),
            responses=PostgresResponseStore(database),
            cursors=Cursors(secrets["cursors"]),
            queue=queue,
            upkeep=PostgresQueueUpkeep(database),
            runner=runner,
            presence=presence,
            lease=lease,
            provider_names=providers.names,
            backfill=backfill,
            reembedding=make_reembedding(providers, vectors),
            usage=usage_reports(settings, database, clock),
            circuits=circuits,
            metrics=metrics,
        )


class _Probe:
    """`ports.system.SystemProbe`."""

    def __init__(
        self, database: Database, circuits: PostgresCircuits, names: Sequence[str]
    ) -> None:
        self._database = database
        self._circuits = circuits
        self._names = names  # of this configuration: an account of before does not count

    async def provider_faults(self) -> Sequence[CircuitFault]:
        return await self._circuits.faults(self._names)

    async def schema_is_current(self) -> bool:
        return await schema_is_current(self._database)

    async def live_worker_count(self) -> int:
        return await live_worker_count(self._database)


async def _offer_backfill(backfill: Backfill, emit: Emit) -> None:
    """Say what was left out while a step was off: it may be on again."""
    owed = await backfill.pending_counts(project_id=None, user_id=None)
    if owed.asked:
        emit(
            Notice(
                f"{owed.asked:,} blocks lack what was switched off when they came:"
                " `luma-memory backfill` makes it"
            )
        )


def _notices(settings: Settings) -> list[Notice]:
    return [
        Notice(
            f"{name} is not a setting of this service"
            + (f"; did you mean {nearest}?" if nearest else ""),
            severity="warning",
        )
        for name, nearest in unknown_variables().items()
    ]
