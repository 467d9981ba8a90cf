"""The processing of a block: ingest, the job queue and the steps of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from luma_memory.bootstrap.database import ProcessKind
from luma_memory.bootstrap.models import Models
from luma_memory.bootstrap.parts import attempts_max, make_presence
from luma_memory.bootstrap.process import Process
from luma_memory.bootstrap.providers import provider_timeout
from luma_memory.bootstrap.storage import Storage
from luma_memory.partitions.presence import PartitionedSignal
from luma_memory.pipeline.enrichment.enrich import EnrichBlock
from luma_memory.pipeline.enrichment.reembed import ReembedScope
from luma_memory.pipeline.enrichment.session_windows import SessionWindows, with_windows
from luma_memory.pipeline.ingest.ingest import Ingest
from luma_memory.pipeline.jobs.disabled_step import DisabledStep
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.pipeline.knowledge.relate import DetectRelations
from luma_memory.pipeline.knowledge.summarize import Summaries
from luma_memory.ports.jobs import JobSignal, WorkerPresence
from luma_memory.providers.completion.local_relations import LocalRelator
from luma_memory.providers.completion.local_summary import LocalSummarizer
from luma_memory.queue.producer import PostgresJobProducer
from luma_memory.queue.signal import Notifier
from luma_memory.settings import Settings
from luma_memory.store.summaries import PostgresSummaryStore
from luma_memory.store.windows import PostgresWindowStore
from luma_memory.telemetry.logs import log_failure

# A late worker has this long before its job is claimed by another one.
LEASE_MARGIN: Final = timedelta(seconds=10)
# How long a process tries to record the end of a job: at the API a client is waiting.
_SETTLE_TIMEOUT: Mapping[ProcessKind, timedelta] = {
    "api": timedelta(seconds=2),
    "worker": timedelta(minutes=10),
}


@dataclass(frozen=True, slots=True)
class Work:
    """Accepts blocks and runs their jobs."""

    ingest: Ingest
    runner: JobRunner
    notifier: JobSignal
    presence: WorkerPresence
    lease: timedelta
    summaries: Summaries | None  # None if weekly summaries are disabled


def make_work(process: Process, storage: Storage, models: Models) -> Work:
    """Starts nothing: the runner is called by the worker and the API."""
    settings, stack = process.settings, process.stack
    summaries = _summaries(process, storage, models)
    runner = _runner(process, storage, models, summaries)
    placement = storage.placement
    notifier = (
        Notifier(storage.database)
        if placement.places is None
        else PartitionedSignal(placement.places)
    )
    stack.push_async_callback(notifier.stop)
    presence = make_presence(
        placement, storage.queue, process.worker_id, slots=settings.worker_max_concurrent_jobs
    )
    stack.push_async_callback(presence.stop)
    lease = _job_timeout(settings) + LEASE_MARGIN
    ingest = Ingest(
        storage.blocks,
        clock=process.clock,
        signal=notifier,
        run_job=runner.run,
        worker_id=process.worker_id,
        lease=lease,
        attempts_max=attempts_max(settings),
        part_of=placement.part_of,
    )
    stack.push_async_callback(ingest.close)
    return Work(ingest, runner, notifier, presence, lease, summaries)


def _runner(
    process: Process, storage: Storage, models: Models, summaries: Summaries | None
) -> JobRunner:
    settings = process.settings
    windows = _windows(process, storage, models)
    relations = _relation_detection(process, storage, models)
    return JobRunner(
        storage.queue,
        {
            "enrich_and_embed": _enrichment(process, storage, models, windows),
            "reembed": with_windows(windows, _reembedding(process, storage, models)),
            "detect_relations": relations or DisabledStep("MEMORY_RELATIONS_ENABLED"),
            "weekly_summary": summaries or DisabledStep("MEMORY_WEEKLY_SUMMARIES_ENABLED"),
        },
        worker_id=process.worker_id,
        timeout=_job_timeout(settings),
        backoff=timedelta(milliseconds=settings.retry_backoff_ms),
        record_timeout=_SETTLE_TIMEOUT[process.kind],
        clock=process.clock,
        emit=process.emit,
        report_bug=log_failure,
        was_away_since=storage.placement.was_away_since,
        is_parted=storage.placement.places is not None,
    )


def _enrichment(
    process: Process, storage: Storage, models: Models, windows: SessionWindows
) -> EnrichBlock:
    settings, providers = process.settings, models.providers
    return EnrichBlock(
        storage.blocks,
        worker_id=process.worker_id,
        enricher=providers.enricher,
        embedder=providers.embedder,
        fallback=providers.fallback,
        fail_fast=settings.fail_fast,
        clock=process.clock,
        emit=process.emit,
        can_wait=settings.worker_enabled,
        paused_wait=_job_timeout(settings),
        provider_timeout=provider_timeout(settings),
        job_timeout=_job_timeout(settings),
        spending=models.spending,
        scope_embedders=models.scope_embedders,
        windows=windows,
        concurrent_writes=2 if settings.has_completion_provider else 1,
        part_of=storage.placement.part_of,
    )


def _reembedding(process: Process, storage: Storage, models: Models) -> ReembedScope:
    return ReembedScope(
        storage.vectors,
        embedder=models.providers.embedder,
        model_id=models.providers.embedding_model_id or "",
        slice_=_job_timeout(process.settings) / 2,
        clock=process.clock,
        spending=models.spending,
    )


def _windows(process: Process, storage: Storage, models: Models) -> SessionWindows:
    settings = process.settings
    # Without a worker nothing would run their jobs.
    is_enabled = settings.context_vectors_enabled and settings.worker_enabled
    return SessionWindows(
        storage.placement.store(PostgresWindowStore),
        storage.placement.store(
            lambda partition: PostgresJobProducer(partition, attempts_max=attempts_max(settings))
        ),
        embedder=models.providers.embedder if is_enabled else None,
        scope_embedders=models.scope_embedders,
        spending=models.spending,
        clock=process.clock,
        part_of=storage.placement.part_of,
    )


def _relation_detection(
    process: Process, storage: Storage, models: Models
) -> DetectRelations | None:
    providers = models.providers
    if providers.relator is None:
        return None
    return DetectRelations(
        storage.relations,
        relator=providers.relator,
        fallback=LocalRelator() if providers.falls_back else None,
        limit=process.settings.relation_detection_rate_limit,
        spending=models.spending,
        worker_id=process.worker_id,
        clock=process.clock,
        emit=process.emit,
    )


def _summaries(process: Process, storage: Storage, models: Models) -> Summaries | None:
    providers = models.providers
    if providers.summarizer is None:
        return None
    return Summaries(
        storage.placement.store(PostgresSummaryStore),
        storage.users,
        summarizer=providers.summarizer,
        fallback=LocalSummarizer() if providers.falls_back else None,
        spending=models.spending,
        worker_id=process.worker_id,
        clock=process.clock,
        emit=process.emit,
    )


def _job_timeout(settings: Settings) -> timedelta:
    return timedelta(milliseconds=settings.worker_job_timeout_ms)
