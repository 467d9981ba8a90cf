"""Search, and the contexts assembled from its results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from luma_memory import __version__
from luma_memory.bootstrap.models import Models
from luma_memory.bootstrap.parts import attempts_max
from luma_memory.bootstrap.process import Process
from luma_memory.bootstrap.storage import Storage
from luma_memory.pipeline.context.context import Contexts
from luma_memory.pipeline.context.context_cache import ContextCache
from luma_memory.pipeline.context.hit_counter import HitCounter
from luma_memory.pipeline.items.items import Items
from luma_memory.pipeline.recall.calibration import Calibrations
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.snapshots import Snapshots
from luma_memory.ports.jobs import JobSignal
from luma_memory.providers.completion.extract.question import LocalQuestionReader
from luma_memory.settings import Settings
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.cache_ledger import PostgresCacheLedger
from luma_memory.store.items import PostgresItemStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.scope_versions import PostgresScopeVersions
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore


@dataclass(frozen=True, slots=True)
class Search:
    """Recall with the reader of its queries."""

    recall: Recall
    question_reader: LocalQuestionReader
    snapshots: Snapshots  # empty if disabled


@dataclass(frozen=True, slots=True)
class ContextParts:
    """Contexts and their cache."""

    contexts: Contexts
    cache: ContextCache
    hits: HitCounter


def uses_relations(settings: Settings) -> bool:
    """Whether recall reads relations."""
    return settings.relations_enabled and settings.recall_relations_enabled


def make_recall(process: Process, storage: Storage, models: Models) -> Search:
    """At the API, starts loading the language data in the background."""
    settings, providers = process.settings, models.providers
    reader = LocalQuestionReader(process.clock)
    if process.kind == "api":
        reader.warm()
    calibrations = Calibrations(storage.vectors)
    process.stack.push_async_callback(calibrations.close)
    snapshots = Snapshots(
        storage.placement.read_store(PostgresSnapshotStore),
        settings.snapshot_memory_mb << 20,
        process.clock,
        process.emit,
    )
    process.stack.push_async_callback(snapshots.close)
    recall = Recall(
        storage.placement.read_store(PostgresSearchStore),
        storage.placement.read_store(
            lambda partition: PostgresBlockStore(partition, attempts_max=attempts_max(settings))
        ),
        embedder=providers.embedder,
        scope_embedders=models.scope_embedders,
        reader=reader,
        calibrations=calibrations,
        threshold=settings.similarity_threshold,
        reranker=providers.reranker,
        relations=(
            storage.placement.read_store(PostgresRelationStore)
            if uses_relations(settings)
            else None
        ),
        spending=models.spending,
        users=storage.users,
        snapshots=snapshots if settings.snapshot_memory_mb else None,
        emit=process.emit,
    )
    return Search(recall, reader, snapshots)


def make_items(process: Process, storage: Storage, recall: Recall, signal: JobSignal) -> Items:
    items = Items(
        storage.placement.read_store(
            lambda partition: PostgresItemStore(
                partition, attempts_max=attempts_max(process.settings)
            )
        ),
        storage.blocks,
        recall,
        clock=process.clock,
        signal=signal,
        part_of=storage.placement.part_of,
    )
    process.stack.push_async_callback(items.close)
    return items


def make_contexts(
    process: Process, storage: Storage, models: Models, recall: Recall
) -> ContextParts:
    settings, providers, stack = process.settings, models.providers, process.stack
    ledger = PostgresCacheLedger(storage.database)
    hits = HitCounter(ledger, clock=process.clock, emit=process.emit)
    stack.push_async_callback(hits.close)
    cache = ContextCache(
        storage.cache,
        storage.placement.store(PostgresScopeVersions),
        ttl=timedelta(seconds=settings.cache_ttl_seconds),
        counter=hits,
        clock=process.clock,
        emit=process.emit,
        local_bytes_max=settings.cache_memory_mb << 20 if settings.redis_url else 0,
    )
    contexts = Contexts(
        recall,
        cache,
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
        emit=process.emit,
        spending=models.spending,
    )
    stack.push_async_callback(contexts.close)
    return ContextParts(contexts, cache, hits)
