"""The whole service of one process: Settings in, live objects out, closed in reverse order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from luma_memory.bootstrap.database import ProcessKind
from luma_memory.bootstrap.jobs import Work, make_work
from luma_memory.bootstrap.models import Models, open_models
from luma_memory.bootstrap.parts import (
    attempts_max,
    job_control,
    key_ring,
    make_erasing,
    make_reembedding,
    usage_reports,
)
from luma_memory.bootstrap.placement import Placement
from luma_memory.bootstrap.process import Process
from luma_memory.bootstrap.recall import (
    ContextParts,
    Search,
    make_contexts,
    make_items,
    make_recall,
)
from luma_memory.bootstrap.storage import Storage, open_storage
from luma_memory.bootstrap.tracing import tracing
from luma_memory.bootstrap.webhooks import Deliveries, make_deliveries, make_webhooks
from luma_memory.domain.clock import Clock
from luma_memory.domain.partition import PartitionFault
from luma_memory.insights import Insights
from luma_memory.pipeline.accounts.key_ring import KeyRing
from luma_memory.pipeline.accounts.keys import Keys
from luma_memory.pipeline.accounts.usage import UsageReports
from luma_memory.pipeline.accounts.users import Users
from luma_memory.pipeline.context.context import Contexts
from luma_memory.pipeline.enrichment.backfill import Backfill
from luma_memory.pipeline.enrichment.reembed import Reembedding
from luma_memory.pipeline.enrichment.reembed_watch import ReembedWatch
from luma_memory.pipeline.history.recording import HistoryRecorder
from luma_memory.pipeline.ingest.archiving import Archiving
from luma_memory.pipeline.ingest.block_lists import BlockLists
from luma_memory.pipeline.ingest.block_reader import Blocks
from luma_memory.pipeline.ingest.block_selections import BlockSelections
from luma_memory.pipeline.ingest.editing import Editing
from luma_memory.pipeline.ingest.erasing import Erasing
from luma_memory.pipeline.ingest.ingest import Ingest
from luma_memory.pipeline.items.items import Items
from luma_memory.pipeline.jobs.job_control import Jobs
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.pipeline.knowledge.relate import Relations
from luma_memory.pipeline.knowledge.summarize import Summaries
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.webhooks.endpoints import Webhooks
from luma_memory.pipeline.webhooks.stream import EventStream
from luma_memory.ports.circuits import CircuitFault
from luma_memory.ports.idempotency import ResponseStore
from luma_memory.ports.jobs import JobQueue, QueueUpkeep, WorkerPresence
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import schema_is_current
from luma_memory.protocol.confirmations import Confirmations
from luma_memory.protocol.cursors import Cursors
from luma_memory.queue.session import live_worker_count
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.settings import Settings, unknown_variables
from luma_memory.store.archive import PostgresArchive
from luma_memory.store.block_lists import PostgresBlockLists
from luma_memory.store.block_selections import PostgresBlockSelections
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.edits import PostgresBlockEditor
from luma_memory.store.events import PostgresEventStore
from luma_memory.store.history import PostgresHistory
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.responses import PostgresResponseStore
from luma_memory.store.user_lists import PostgresUserLists
from luma_memory.telemetry.events import Emit, Notice
from luma_memory.telemetry.metrics import Metrics

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Service:
    """Everything one process works with."""

    settings: Settings
    clock: Clock
    emit: Emit
    ingest: Ingest
    blocks: Blocks
    items: Items
    lists: BlockLists
    selections: BlockSelections
    recall: Recall
    contexts: Contexts
    insights: Insights
    jobs: Jobs
    relations: Relations
    summaries: Summaries | None  # None if weekly summaries are disabled
    users: Users
    keys: KeyRing
    api_keys: Keys
    editing: Editing
    erasing: Erasing
    archiving: Archiving
    responses: ResponseStore
    cursors: Cursors
    confirmations: Confirmations
    queue: JobQueue
    upkeep: QueueUpkeep
    runner: JobRunner
    presence: WorkerPresence
    lease: timedelta
    provider_names: Mapping[str, str]  # of the models for "enrichment" and "embedding"
    backfill: Backfill
    reembedding: Reembedding | None  # None if embedding is disabled
    reembed_watch: ReembedWatch
    usage: UsageReports
    circuits: PostgresCircuits
    circuit_names: Sequence[str]  # of this configuration
    metrics: Metrics
    history: HistoryRecorder
    webhooks: Webhooks
    events: EventStream
    deliveries: Deliveries


@asynccontextmanager
async def open_service(settings: Settings, *, kind: ProcessKind) -> AsyncIterator[Service]:
    """Connect everything; API and worker processes have the same parts.

    Raises SetupError (also when the schema is missing: see `open_database`) and StoreUnavailable.
    """
    async with AsyncExitStack() as stack:
        process = Process.of(settings, kind, stack)
        for notice in _notices(settings):
            process.emit(notice)
        await stack.enter_async_context(tracing(settings, kind, process.emit))
        storage = await open_storage(process)
        models = await open_models(process, storage)
        work = make_work(process, storage, models)
        keys = key_ring(storage.database, settings, process.clock)
        stack.push_async_callback(keys.close)
        search = make_recall(process, storage, models)
        contexts = make_contexts(process, storage, models, search.recall)
        items = make_items(process, storage, search.recall, work.notifier)
        history = _history(process, storage, models)
        stack.push_async_callback(history.close)
        yield _service(process, storage, models, work, keys, search, contexts, items, history)


def _service(
    process: Process,
    storage: Storage,
    models: Models,
    work: Work,
    keys: KeyRing,
    search: Search,
    contexts: ContextParts,
    items: Items,
    history: HistoryRecorder,
) -> Service:
    settings, clock, placement = process.settings, process.clock, storage.placement
    database = storage.database
    reembed_watch = _reembed_watch(process, storage)
    return Service(
        settings=settings,
        clock=clock,
        emit=process.emit,
        ingest=work.ingest,
        blocks=Blocks(storage.blocks),
        items=items,
        lists=BlockLists(placement.read_store(PostgresBlockLists)),
        selections=BlockSelections(placement.read_store(PostgresBlockSelections)),
        recall=search.recall,
        contexts=contexts.contexts,
        insights=Insights(
            storage.queue,
            _Probe(placement, storage.circuits, models.providers.circuits),
            cache=storage.cache,
            hits=contexts.hits,
            clock=clock,
            system_enabled=settings.system_enabled,
            worker_enabled=settings.worker_enabled,
            reembedding=reembed_watch.state,
            is_warming=lambda: search.question_reader.is_warming,
        ),
        jobs=Jobs(job_control(placement, settings), storage.queue, signal=work.notifier),
        relations=Relations(placement.read_store(PostgresRelationStore)),
        summaries=work.summaries,
        users=Users(storage.users, placement.read_store(PostgresUserLists)),
        keys=keys,
        api_keys=Keys(PostgresKeyStore(database), clock=clock),
        editing=Editing(
            placement.store(
                lambda partition: PostgresBlockEditor(
                    partition, attempts_max=attempts_max(settings)
                )
            ),
            storage.blocks,
            signal=work.notifier,
        ),
        erasing=make_erasing(placement, storage.secrets, clock, contexts.cache, search.snapshots),
        archiving=Archiving(placement.store(PostgresArchive), embedder=models.providers.embedder),
        responses=placement.store(PostgresResponseStore),
        cursors=Cursors(storage.secrets["cursors"]),
        confirmations=Confirmations(storage.secrets["cursors"]),
        queue=storage.queue,
        upkeep=placement.store(PostgresQueueUpkeep),
        runner=work.runner,
        presence=work.presence,
        lease=work.lease,
        provider_names=models.providers.names,
        backfill=models.backfill,
        reembedding=make_reembedding(models.providers, storage.vectors),
        reembed_watch=reembed_watch,
        usage=usage_reports(settings, placement, clock),
        circuits=storage.circuits,
        circuit_names=models.providers.circuits,
        metrics=process.metrics,
        history=history,
        webhooks=make_webhooks(process, storage, work.notifier),
        events=EventStream(placement.store(PostgresEventStore), clock=clock),
        deliveries=make_deliveries(process, storage),
    )


def _reembed_watch(process: Process, storage: Storage) -> ReembedWatch:
    watch = ReembedWatch(storage.vectors, clock=process.clock)
    process.stack.push_async_callback(watch.close)
    return watch


def _history(process: Process, storage: Storage, models: Models) -> HistoryRecorder:
    async def states() -> Mapping[str, float]:
        stats = await storage.queue.stats()
        faults = await storage.circuits.faults(models.providers.circuits)
        return {
            "jobs_pending": stats.pending,
            "jobs_processing": stats.processing,
            "jobs_failed": stats.failed,
            "oldest_pending_seconds": round(stats.oldest_pending_seconds or 0, 1),
            "workers": await live_worker_count(storage.database),
            "open_circuits": len(faults),
        }

    store = PostgresHistory(storage.database)
    return HistoryRecorder(store, process.history, states, clock=process.clock)


class _Probe:
    """`ports.system.SystemProbe`."""

    def __init__(
        self, placement: Placement, circuits: PostgresCircuits, names: Sequence[str]
    ) -> None:
        self._placement = placement
        self._circuits = circuits
        self._names = names  # of this configuration; circuits of earlier accounts do not count

    async def schema_is_current(self) -> bool:
        """Of the first partition that responds: users of others can be served."""
        return await self._first(schema_is_current)

    async def live_worker_count(self) -> int:
        return await self._first(live_worker_count)

    def partition_faults(self) -> Sequence[PartitionFault]:
        places = self._placement.places
        return () if places is None else places.faults()

    def replica_is_used(self) -> bool | None:
        replica = self._placement.replica
        return None if replica is None else replica.is_used

    async def _first(self, question: Callable[[Database], Awaitable[ResultT]]) -> ResultT:
        """Asked of the home partition, and then of the others, which may be on other servers."""
        places = self._placement.places
        if places is None:
            return await question(self._placement.home)
        return await places.first(question)

    async def provider_faults(self) -> Sequence[CircuitFault]:
        return await self._circuits.faults(self._names)


def _notices(settings: Settings) -> list[Notice]:
    return [
        Notice(
            f"{name} is not a setting of this service"
            + (f"; did you mean {nearest}?" if nearest else ""),
            severity="warning",
        )
        for name, nearest in unknown_variables().items()
    ]
