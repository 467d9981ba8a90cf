"""One constructor a part: which settings and adapters it is made of."""

from __future__ import annotations

from collections.abc import Mapping

from luma_memory.bootstrap.providers import (
    Providers,
    daily_limits,
    model_provider,
    open_embedder,
    prices_of,
)
from luma_memory.cache.in_process import InProcessCache
from luma_memory.cache.redis import RedisCache
from luma_memory.domain.clock import Clock
from luma_memory.domain.loopback import is_loopback
from luma_memory.pipeline.accounts.key_ring import KeyRing
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.accounts.usage import UsageReports
from luma_memory.pipeline.enrichment.reembed import Reembedding
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.pipeline.enrichment.session_windows import SessionWindows
from luma_memory.pipeline.ingest.erasing import Erasing
from luma_memory.pipeline.knowledge.relate import DetectRelations
from luma_memory.pipeline.knowledge.summarize import Summaries
from luma_memory.ports.accounts import UserStore
from luma_memory.ports.cache import Cache, ScopeCache
from luma_memory.ports.relations import RelationStore
from luma_memory.postgres.database import Database
from luma_memory.providers.completion.local_relations import LocalRelator
from luma_memory.providers.completion.local_summary import LocalSummarizer
from luma_memory.providers.identity.supabase import SupabaseTokens
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.producer import PostgresJobProducer
from luma_memory.settings import Settings
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.store.summaries import PostgresSummaryStore
from luma_memory.store.usage import PostgresUsageStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.store.windows import PostgresWindowStore
from luma_memory.telemetry.events import Emit, Notice
from luma_memory.telemetry.logs import log_event


def make_spending(settings: Settings, database: Database, clock: Clock) -> Spending | None:
    """None where nothing costs anything."""
    if not (settings.has_model_provider or settings.has_completion_provider):
        return None
    return Spending(
        PostgresUsageStore(database),
        prices=model_provider().model_prices(settings.openai_base_url),
        limits=daily_limits(settings),
        clock=clock,
    )


async def make_serving(
    providers: Providers,
    settings: Settings,
    vectors: PostgresVectorModels,
    circuits: PostgresCircuits,
    clock: Clock,
) -> ScopeEmbedders | None:
    embedder, model_id = providers.embedder, providers.embedding_model_id
    if embedder is None or model_id is None:
        return None
    await vectors.register(model_id)
    others = [other for other in await vectors.in_use() if other != model_id]
    if others:
        log_event(
            Notice(
                f"There are vectors of {', '.join(others)}, and blocks and questions go on with"
                f" them: `luma-memory reembed` changes to {model_id}"
            )
        )
    return ScopeEmbedders(
        embedder,
        model_id=model_id,
        models=vectors,
        open_other=lambda other: open_embedder(settings, circuits, clock, other),
        clock=clock,
    )


def looks_for_relations(settings: Settings) -> bool:
    """Whether blocks get a job for their relations: without a worker nobody would run it."""
    return (
        settings.relations_enabled
        and settings.worker_enabled
        and settings.relation_detection_rate_limit > 0
    )


def uses_relations(settings: Settings) -> bool:
    """Whether recall reads relations."""
    return settings.relations_enabled and settings.recall_relations_enabled


def make_relation_detection(
    settings: Settings,
    store: RelationStore,
    providers: Providers,
    spending: Spending | None,
    worker_id: str,
    clock: Clock,
    emit: Emit,
) -> DetectRelations | None:
    if providers.relator is None:
        return None
    return DetectRelations(
        store,
        relator=providers.relator,
        fallback=LocalRelator() if providers.falls_back else None,
        limit=settings.relation_detection_rate_limit,
        spending=spending,
        worker_id=worker_id,
        clock=clock,
        emit=emit,
    )


def make_summaries(
    database: Database,
    users: UserStore,
    providers: Providers,
    spending: Spending | None,
    worker_id: str,
    clock: Clock,
    emit: Emit,
) -> Summaries | None:
    if providers.summarizer is None:
        return None
    return Summaries(
        PostgresSummaryStore(database),
        users,
        summarizer=providers.summarizer,
        fallback=LocalSummarizer() if providers.falls_back else None,
        spending=spending,
        worker_id=worker_id,
        clock=clock,
        emit=emit,
    )


def make_reembedding(providers: Providers, vectors: PostgresVectorModels) -> Reembedding | None:
    if providers.embedding_model_id is None:
        return None
    return Reembedding(vectors, model_id=providers.embedding_model_id, circuits=providers.circuits)


def usage_reports(settings: Settings, database: Database, clock: Clock) -> UsageReports:
    return UsageReports(
        PostgresUsageStore(database),
        prices=lambda: prices_of(settings.openai_base_url),
        clock=clock,
    )


def job_control(database: Database, settings: Settings) -> PostgresJobControl:
    return PostgresJobControl(database, attempts_max=settings.retry_attempts)


def make_erasing(
    database: Database, secrets: Mapping[str, bytes], clock: Clock, *caches: ScopeCache
) -> Erasing:
    store = PostgresEraserStore(database)
    return Erasing(store, secret=secrets["receipts"], caches=caches, clock=clock)


def key_ring(database: Database, settings: Settings, clock: Clock) -> KeyRing:
    admin_key, supabase_url = settings.admin_key, settings.supabase_url
    return KeyRing(
        PostgresKeyStore(database),
        admin_key=admin_key.get_secret_value() if admin_key is not None else None,
        tokens=SupabaseTokens(supabase_url, clock=clock) if supabase_url is not None else None,
        open_without_keys=is_loopback(settings.host) and admin_key is None and supabase_url is None,
        required=not settings.auth_disabled,
        clock=clock,
    )


def make_cache(settings: Settings, clock: Clock, emit: Emit) -> Cache:
    if settings.redis_url is None:
        return InProcessCache(size_bytes_max=settings.cache_memory_mb << 20, clock=clock)
    return RedisCache(
        settings.redis_url.get_secret_value(),
        timeout_seconds=settings.cache_timeout_ms / 1000,
        emit=emit,
    )


def make_windows(
    settings: Settings,
    database: Database,
    providers: Providers,
    serving: ScopeEmbedders | None,
    spending: Spending | None,
    clock: Clock,
) -> SessionWindows:
    # Without a worker nobody would run their jobs.
    is_wanted = settings.context_vectors_enabled and settings.worker_enabled
    return SessionWindows(
        PostgresWindowStore(database),
        PostgresJobProducer(database, attempts_max=attempts_max(settings)),
        embedder=providers.embedder if is_wanted else None,
        scope_embedders=serving,
        spending=spending,
        clock=clock,
    )


def attempts_max(settings: Settings) -> int:
    """Attempts of a new job. Without a worker nobody would make a second one."""
    return settings.retry_attempts if settings.worker_enabled else 1
