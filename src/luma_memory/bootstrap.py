"""Composition root: Settings in, live objects out, closed in reverse order.

The only file that knows which adapter stands behind which port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import SecretStr

from luma_memory import __version__
from luma_memory.cache.in_process import InProcessCache
from luma_memory.cache.redis import RedisCache
from luma_memory.domain.cache import CacheFacts
from luma_memory.domain.clock import Clock, SystemClock
from luma_memory.domain.enrichment import EnrichmentRequest
from luma_memory.domain.errors import SetupError
from luma_memory.domain.loopback import is_loopback
from luma_memory.domain.ports import (
    Cache,
    Embedder,
    Enricher,
    JobQueue,
    QueueUpkeep,
    Synthesizer,
    TokenCounter,
    WorkerPresence,
)
from luma_memory.insights import Insights
from luma_memory.pipeline.context import Contexts
from luma_memory.pipeline.context_cache import ContextCache
from luma_memory.pipeline.enrich import EnrichBlock
from luma_memory.pipeline.hit_counter import HitCounter
from luma_memory.pipeline.ingest import Ingest
from luma_memory.pipeline.job_control import Jobs
from luma_memory.pipeline.jobs import JobRunner
from luma_memory.pipeline.key_ring import KeyRing
from luma_memory.pipeline.keys import Keys
from luma_memory.pipeline.reading import Blocks
from luma_memory.pipeline.recall import Recall
from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded import EmbeddedPostgres, default_data_dir, server_runs
from luma_memory.postgres.inspection import DatabaseFacts, inspect_database
from luma_memory.postgres.migrator import (
    MigrationReport,
    migrate,
    migration_script,
    schema_is_current,
)
from luma_memory.providers.completion.local import LocalEnricher
from luma_memory.providers.embedding.caching import CachingEmbedder
from luma_memory.providers.embedding.coalescing import CoalescingEmbedder
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.providers.embedding.weights import check_tokenizer, check_weights, find_model
from luma_memory.providers.identity.supabase import SupabaseTokens
from luma_memory.providers.tokens import CountedTokens, EstimatedTokens
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.session import WorkerSession, live_worker_count, new_worker_id
from luma_memory.queue.signal import Notifier
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.settings import Settings, unknown_variables
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.cache_ledger import PostgresCacheLedger
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.store.scope_versions import PostgresScopeVersions
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import Emit, Notice
from luma_memory.telemetry.logs import log_event, log_failure

ProcessKind = Literal["api", "worker"]
# A worker that answers late has this long before its job goes to another one.
LEASE_MARGIN = timedelta(seconds=10)
# Of a job's time; local enrichment of the longest block takes about a second.
PROVIDER_SHARE = 0.8


# Jobs that are embedded together end together, and then share their write-back and the next claim.
LOCAL_GROUP = 16
# Some four thousand questions.
_LOCAL_VECTORS_BYTES = 8 << 20
# A statement takes milliseconds; one that takes this long hangs, and its caller should know.
_COMMAND_SECONDS = 10.0
# An operator may look through millions of rows, and can press Ctrl-C.
_OPERATOR_SECONDS = 300.0
# How long the end of a job is tried to be written down: somebody waits for the API's.
_SETTLE_PATIENCE: Mapping[ProcessKind, timedelta] = {
    "api": timedelta(seconds=2),
    "worker": timedelta(minutes=10),
}
_POOLER_NOTICE = (
    "DATABASE_URL leads to a transaction pooler: workers find jobs by polling only (no LISTEN), and"
    " a killed worker's jobs wait until their lease ends (no session lock); the database's direct"
    " address has both."
)


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
    keys: KeyRing
    queue: JobQueue
    upkeep: QueueUpkeep
    runner: JobRunner
    presence: WorkerPresence
    lease: timedelta
    provider_names: Mapping[str, str]  # "enrichment" and "embedding" to what does it


@asynccontextmanager
async def open_service(settings: Settings, *, kind: ProcessKind) -> AsyncIterator[Service]:
    """Connect everything; the API's and the worker's processes are made of the same parts.

    Raises SetupError (also when the schema is missing: see `open_database`) and StoreUnavailable.
    """
    emit, clock = log_event, SystemClock()
    for notice in _notices(settings):
        emit(notice)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(database_address(settings))
        database = await _open_database(dsn, settings, stack, kind)
        worker_id = new_worker_id(kind)
        store = PostgresBlockStore(database, attempts_max=_attempts_max(settings))
        queue = PostgresJobQueue(database)
        cache = _cache(settings, clock, emit)
        stack.push_async_callback(cache.close)
        embedder, tokens = await _embedder(settings, cache, clock)
        enricher = _enricher(settings)
        synthesizer = _synthesizer(settings)
        for provider in (embedder, enricher, synthesizer):
            if provider is not None:
                stack.push_async_callback(provider.close)
        runner = JobRunner(
            queue,
            {
                "enrich_and_embed": EnrichBlock(
                    store,
                    worker_id=worker_id,
                    enricher=enricher,
                    embedder=embedder,
                    fallback=_fallback(settings),
                    provider_timeout=_provider_timeout(settings),
                )
            },
            worker_id=worker_id,
            timeout=timedelta(milliseconds=settings.worker_job_timeout_ms),
            backoff=timedelta(milliseconds=settings.retry_backoff_ms),
            patience=_SETTLE_PATIENCE[kind],
            clock=clock,
            emit=emit,
            report_bug=log_failure,
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
            runner=runner,
            worker_id=worker_id,
            lease=lease,
            attempts_max=_attempts_max(settings),
        )
        stack.push_async_callback(ingest.close)
        keys = _key_ring(database, settings, clock)
        stack.push_async_callback(keys.close)
        recall = Recall(PostgresSearchStore(database), store, embedder=embedder, emit=emit)
        hits = HitCounter(PostgresCacheLedger(database), clock=clock)
        stack.push_async_callback(hits.close)
        contexts = Contexts(
            recall,
            ContextCache(
                cache,
                PostgresScopeVersions(database),
                ttl=timedelta(seconds=settings.cache_ttl_seconds),
                counter=hits,
                clock=clock,
                emit=emit,
            ),
            synthesizer=synthesizer,
            tokens=tokens,
            # Every setting that changes what recall finds.
            configuration=(
                __version__,
                _vectors_of(embedder, settings),
                settings.similarity_threshold,
            ),
            emit=emit,
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
                _Probe(database),
                cache=cache,
                hits=hits,
                clock=clock,
                system_enabled=settings.system_enabled,
                worker_enabled=settings.worker_enabled,
            ),
            jobs=Jobs(_job_control(database, settings), queue, signal=notifier),
            keys=keys,
            queue=queue,
            upkeep=PostgresQueueUpkeep(database),
            runner=runner,
            presence=presence,
            lease=lease,
            provider_names={
                "enrichment": enricher.name if enricher else "off",
                "embedding": _embedding_name(embedder, settings),
            },
        )


@asynccontextmanager
async def open_jobs(settings: Settings) -> AsyncIterator[Jobs]:
    """The queue alone; workers meet new work at their next poll.

    Raises as `_operators_database`.
    """
    async with _operators_database(settings) as database:
        yield Jobs(_job_control(database, settings), PostgresJobQueue(database), signal=None)


@asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[Keys]:
    """The API keys alone. Raises as `_operators_database`."""
    async with _operators_database(settings) as database:
        yield Keys(PostgresKeyStore(database), clock=SystemClock())


@asynccontextmanager
async def _operators_database(settings: Settings) -> AsyncIterator[Database]:
    """The database without providers: what an operator needs when the service is down.

    Never makes a database or a schema. Raises SetupError and StoreUnavailable.
    """
    if settings.database_url is None and not (data_dir(settings) / "postgres").exists():
        raise SetupError(
            f"There is no database in {data_dir(settings)}: say where it is with --data-dir or"
            " DATABASE_URL",
            code="no_database",
        )
    async with database_address(settings) as dsn:
        database = Database(
            dsn,
            pool_size=2,
            command_timeout_seconds=_OPERATOR_SECONDS,
            application_name="luma-memory operator",
            pooler=settings.database_pooler,
        )
        try:
            if not await schema_is_current(database):
                raise _schema_missing()
            yield database
        finally:
            await database.close()


@asynccontextmanager
async def database_address(settings: Settings, *, exclusive: bool = False) -> AsyncIterator[str]:
    """The DSN of the configured database, or of the embedded one, started if need be.

    exclusive: refuse a data directory that another `luma-memory up` is using. Raises SetupError.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    embedded = EmbeddedPostgres(data_dir(settings), exclusive=exclusive)
    dsn = await asyncio.to_thread(embedded.start)
    try:
        yield dsn
    finally:
        await asyncio.to_thread(embedded.stop)


def embedded_database_ended(settings: Settings) -> bool:
    """Whether the embedded database is used and not there. Raises SetupError."""
    return settings.database_url is None and not server_runs(data_dir(settings))


def data_dir(settings: Settings) -> Path:
    """Where the embedded database lives."""
    return settings.data_dir or default_data_dir()


async def migrate_database(settings: Settings, dsn: str) -> MigrationReport:
    """Bring the database to this version's schema. Raises SetupError or StoreUnavailable."""
    database = Database(dsn, pool_size=2, pooler=settings.database_pooler)
    try:
        return await migrate(database)
    finally:
        await database.close()


def schema_script() -> str:
    """The schema as one file for a SQL editor."""
    return migration_script()


async def database_facts(dsn: str) -> DatabaseFacts:
    """What the database is and has; changes nothing. Raises StoreUnavailable or SetupError."""
    database = Database(dsn, pool_size=2)
    try:
        return await inspect_database(database)
    finally:
        await database.close()


async def cache_facts(settings: Settings) -> CacheFacts:
    """How the configured cache is; changes nothing and never raises."""
    cache = _cache(settings, SystemClock(), log_event)
    try:
        return await cache.facts()
    finally:
        await cache.close()


def check_local_model(settings: Settings) -> str:
    """The folder of the local model, its files complete and, if pinned, with the right digests.

    Reads all of the weights. Raises SetupError.
    """
    files = find_model(settings.local_model)
    check_weights(files)
    check_tokenizer(files)
    return str(files.folder)


async def try_providers(settings: Settings, text: str) -> dict[str, str]:
    """Embed and enrich a text with the configured providers; what each of them is.

    A model provider's calls cost money. Raises what the providers raise.
    """
    clock = SystemClock()
    cache = InProcessCache(size_bytes_max=_LOCAL_VECTORS_BYTES, clock=clock)
    embedder, _ = await _embedder(settings, cache, clock)
    enricher = _enricher(settings)
    names = {}
    try:
        if embedder is not None:
            embedding = await embedder.embed_query(text)
            names["embedding"] = f"{embedder.model.id}, {len(embedding.vector)} dimensions"
        if enricher is not None:
            await enricher.enrich(EnrichmentRequest(content=text, occurred_at=SystemClock().now()))
            names["enrichment"] = enricher.name
    finally:
        for provider in (embedder, enricher):
            if provider is not None:
                await provider.close()
    return names


class ModelProvider(Protocol):
    """What `providers.model_provider` offers."""

    def model_embedder(
        self,
        *,
        model: str,
        api_key: SecretStr | None,
        base_url: str | None,
        dimension: int | None,
        timeout_seconds: float,
    ) -> Embedder: ...

    def model_enricher(
        self, *, model: str, api_key: SecretStr | None, base_url: str | None, timeout_seconds: float
    ) -> Enricher: ...

    def model_synthesizer(
        self, *, model: str, api_key: SecretStr | None, base_url: str | None, timeout_seconds: float
    ) -> Synthesizer: ...


class _Probe:
    """domain.ports.SystemProbe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def schema_is_current(self) -> bool:
        return await schema_is_current(self._database)

    async def live_worker_count(self) -> int:
        return await live_worker_count(self._database)


async def _open_database(
    dsn: str, settings: Settings, stack: AsyncExitStack, kind: ProcessKind
) -> Database:
    database = Database(
        dsn,
        pool_size=settings.database_pool_size,
        command_timeout_seconds=_COMMAND_SECONDS,
        application_name=f"luma-memory {kind}",
        pooler=settings.database_pooler,
    )
    stack.push_async_callback(database.close)
    await database.open()
    if await database.shares_sessions():
        log_event(Notice(_POOLER_NOTICE))
    if not await schema_is_current(database):
        if settings.database_url is not None:
            raise _schema_missing()
        await migrate(database)
        # Connections opened before know nothing of the vector types.
        await database.renew()
    return database


def _schema_missing() -> SetupError:
    return SetupError(
        "The database does not have this version's schema: run `luma-memory migrate`",
        code="schema_missing",
    )


def _job_control(database: Database, settings: Settings) -> PostgresJobControl:
    return PostgresJobControl(database, attempts_max=settings.retry_attempts)


def _key_ring(database: Database, settings: Settings, clock: Clock) -> KeyRing:
    admin_key, supabase_url = settings.admin_key, settings.supabase_url
    return KeyRing(
        PostgresKeyStore(database),
        admin_key=admin_key.get_secret_value() if admin_key is not None else None,
        tokens=SupabaseTokens(supabase_url, clock=clock) if supabase_url is not None else None,
        open_without_keys=is_loopback(settings.host) and admin_key is None and supabase_url is None,
        required=not settings.auth_disabled,
        clock=clock,
    )


def _cache(settings: Settings, clock: Clock, emit: Emit) -> Cache:
    if settings.redis_url is None:
        return InProcessCache(size_bytes_max=settings.cache_memory_mb << 20, clock=clock)
    return RedisCache(
        settings.redis_url.get_secret_value(),
        timeout_seconds=settings.cache_timeout_ms / 1000,
        emit=emit,
    )


async def _embedder(
    settings: Settings, cache: Cache, clock: Clock
) -> tuple[Embedder | None, TokenCounter]:
    """What embeds, questions' vectors kept; and whose tokens a context's budget is counted in."""
    if not settings.embedding_enabled:
        return None, EstimatedTokens()
    ttl = timedelta(seconds=settings.cache_ttl_seconds)
    if not settings.has_model_provider:
        local = await LocalEmbedder.open(settings.local_model, cache_dir=settings.model_cache_dir)
        embedder: Embedder = CoalescingEmbedder(local, jobs_max=LOCAL_GROUP, calls_max=2)
        # Computing one takes about as long as asking Redis for it.
        own = InProcessCache(size_bytes_max=_LOCAL_VECTORS_BYTES, clock=clock)
        tokens = CountedTokens(local.model.id, local.tokens)
        return CachingEmbedder(embedder, own, name=local.model.id, ttl=ttl), tokens
    embedder = _model_provider().model_embedder(
        model=settings.embedding_model,
        api_key=settings.openai_api_key,
        base_url=settings.openai_base_url,
        dimension=settings.embedding_dimension,
        timeout_seconds=settings.provider_timeout_ms / 1000,
    )
    name = _vectors_of(embedder, settings)
    return CachingEmbedder(embedder, cache, name=name, ttl=ttl), EstimatedTokens()


def _embedding_name(embedder: Embedder | None, settings: Settings) -> str:
    if embedder is None:
        return "off"
    # A provider's dimension, and with it its model's description, may be known only later.
    return settings.embedding_model if settings.has_model_provider else embedder.model.id


def _vectors_of(embedder: Embedder | None, settings: Settings) -> str:
    """The embedding model with everything that changes its vectors: services share names."""
    name = _embedding_name(embedder, settings)
    if not settings.has_model_provider:
        return name
    return f"{name} {settings.embedding_dimension} {settings.openai_base_url}"


def _enricher(settings: Settings) -> Enricher | None:
    if not settings.enrichment_enabled:
        return None
    if not settings.has_model_provider:
        return LocalEnricher()
    return _model_provider().model_enricher(
        model=settings.completion_model,
        api_key=settings.openai_api_key,
        base_url=settings.openai_base_url,
        timeout_seconds=settings.provider_timeout_ms / 1000,
    )


def _synthesizer(settings: Settings) -> Synthesizer | None:
    if not settings.synthesis_enabled or not settings.has_model_provider:
        return None
    return _model_provider().model_synthesizer(
        model=settings.completion_model,
        api_key=settings.openai_api_key,
        base_url=settings.openai_base_url,
        timeout_seconds=settings.provider_timeout_ms / 1000,
    )


def _model_provider() -> ModelProvider:
    """Loaded on demand: its libraries cost seconds that a local installation need not pay."""
    module: Any = import_module("luma_memory.providers.model_provider")
    provider: ModelProvider = module
    return provider


def _fallback(settings: Settings) -> Enricher | None:
    wanted = settings.enrichment_enabled and settings.has_model_provider and not settings.fail_fast
    return LocalEnricher() if wanted else None


def _attempts_max(settings: Settings) -> int:
    """Attempts of a new job. Without a worker nobody would make a second one."""
    return settings.retry_attempts if settings.worker_enabled else 1


def _provider_timeout(settings: Settings) -> timedelta | None:
    """What of a job's time a model provider may use up: the rest is the fallback's."""
    job = timedelta(milliseconds=settings.worker_job_timeout_ms)
    return job * PROVIDER_SHARE if _fallback(settings) is not None else None


def _notices(settings: Settings) -> list[Notice]:
    return [
        Notice(
            f"{name} is not a setting of this service"
            + (f"; did you mean {nearest}?" if nearest else ""),
            severity="warning",
        )
        for name, nearest in unknown_variables().items()
    ]
