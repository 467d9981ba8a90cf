"""Composition root: Settings in, live objects out, closed in reverse order.

The only place that knows which adapter stands behind which port; `providers` have their own file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from prometheus_client import start_http_server

from luma_memory import __version__
from luma_memory.bootstrap.providers import (
    LOCAL_VECTORS_BYTES,
    Providers,
    daily_limits,
    model_provider,
    open_embedder,
    open_providers,
    prices_of,
    provider_timeout,
)
from luma_memory.cache.in_process import InProcessCache
from luma_memory.cache.redis import RedisCache
from luma_memory.domain.cache import CacheFacts
from luma_memory.domain.clock import Clock, SystemClock
from luma_memory.domain.enrichment import EnrichmentRequest
from luma_memory.domain.errors import SetupError
from luma_memory.domain.loopback import is_loopback
from luma_memory.domain.ports import (
    AnswerStore,
    Cache,
    JobQueue,
    QueueUpkeep,
    ScopeCache,
    WorkerPresence,
)
from luma_memory.insights import Insights
from luma_memory.pipeline.archiving import Archiving
from luma_memory.pipeline.backfill import Backfill
from luma_memory.pipeline.context import Contexts
from luma_memory.pipeline.context_cache import ContextCache
from luma_memory.pipeline.editing import Editing
from luma_memory.pipeline.enrich import EnrichBlock
from luma_memory.pipeline.erasing import Erasing
from luma_memory.pipeline.hit_counter import HitCounter
from luma_memory.pipeline.ingest import Ingest
from luma_memory.pipeline.job_control import Jobs
from luma_memory.pipeline.jobs import JobRunner
from luma_memory.pipeline.key_ring import KeyRing
from luma_memory.pipeline.keys import Keys
from luma_memory.pipeline.reading import Blocks
from luma_memory.pipeline.recall import Recall
from luma_memory.pipeline.reembed import Reembedding, ReembedScope
from luma_memory.pipeline.serving import ServingEmbedders
from luma_memory.pipeline.session_windows import SessionWindows, with_windows
from luma_memory.pipeline.spending import Spending
from luma_memory.pipeline.usage import UsageReports
from luma_memory.postgres.database import Database
from luma_memory.postgres.embedded import EmbeddedPostgres, default_data_dir, server_runs
from luma_memory.postgres.inspection import DatabaseFacts, inspect_database
from luma_memory.postgres.migrator import (
    MigrationReport,
    migrate,
    migration_script,
    schema_is_current,
)
from luma_memory.protocol.cursors import Cursors
from luma_memory.providers.breaker import NoCircuits
from luma_memory.providers.completion.extract.question import LocalQuestionReader
from luma_memory.providers.embedding.weights import check_tokenizer, check_weights, find_model
from luma_memory.providers.identity.supabase import SupabaseTokens
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.producer import PostgresJobProducer
from luma_memory.queue.session import WorkerSession, live_worker_count, new_worker_id
from luma_memory.queue.signal import Notifier
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.settings import Settings, unknown_variables
from luma_memory.store.answers import PostgresAnswerStore
from luma_memory.store.archive import PostgresArchive
from luma_memory.store.backfill import PostgresBackfillStore
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.cache_ledger import PostgresCacheLedger
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.edits import PostgresBlockEditor
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.store.scope_versions import PostgresScopeVersions
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.secrets import shared_secrets
from luma_memory.store.usage import PostgresUsageStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.store.windows import PostgresWindowStore
from luma_memory.telemetry.events import Emit, Event, Notice
from luma_memory.telemetry.logs import log_event, log_failure
from luma_memory.telemetry.metrics import Metrics

ProcessKind = Literal["api", "worker"]
# A worker that answers late has this long before its job goes to another one.
LEASE_MARGIN = timedelta(seconds=10)
# A statement takes milliseconds; one that takes this long hangs, and its caller should know. At the
# API somebody waits.
_COMMAND_SECONDS: Mapping[ProcessKind, float] = {"api": 4.0, "worker": 10.0}
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
    editing: Editing
    erasing: Erasing
    archiving: Archiving
    answers: AnswerStore
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

    if kind == "worker" and settings.worker_metrics_port is not None:
        _serve_metrics(settings, metrics)
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
        circuits = PostgresCircuits(database)
        providers = await open_providers(settings, circuits, cache, clock)
        stack.push_async_callback(providers.close)
        vectors = PostgresVectorModels(database)
        serving = await _serving(providers, settings, vectors, circuits, clock)
        if serving is not None:
            stack.push_async_callback(serving.close)
        spending = _spending(settings, database, clock)
        if spending is not None:
            stack.push_async_callback(spending.close)
        backfill = Backfill(PostgresBackfillStore(database), circuits=providers.circuits)
        if kind == "worker":
            await _offer_backfill(backfill, emit)
        windows = _windows(settings, database, providers, serving, spending, clock)
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
                    paused_patience=timedelta(milliseconds=settings.worker_job_timeout_ms),
                    provider_timeout=provider_timeout(settings),
                    spending=spending,
                    serving=serving,
                    windows=windows,
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
        secrets = await shared_secrets(database)
        keys = _key_ring(database, settings, clock)
        stack.push_async_callback(keys.close)
        reader = LocalQuestionReader(clock)
        if kind == "api":
            reader.warm()
        recall = Recall(
            PostgresSearchStore(database),
            store,
            embedder=providers.embedder,
            serving=serving,
            reader=reader,
            emit=emit,
        )
        hits = HitCounter(PostgresCacheLedger(database), clock=clock)
        stack.push_async_callback(hits.close)
        context_cache = ContextCache(
            cache,
            PostgresScopeVersions(database),
            ttl=timedelta(seconds=settings.cache_ttl_seconds),
            counter=hits,
            clock=clock,
            emit=emit,
            near_bytes_max=settings.cache_memory_mb << 20 if settings.redis_url else 0,
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
            editing=Editing(
                PostgresBlockEditor(database, attempts_max=_attempts_max(settings)),
                store,
                signal=notifier,
            ),
            erasing=_erasing(database, secrets, clock, context_cache),
            archiving=Archiving(PostgresArchive(database)),
            answers=PostgresAnswerStore(database),
            cursors=Cursors(secrets["cursors"]),
            queue=queue,
            upkeep=PostgresQueueUpkeep(database),
            runner=runner,
            presence=presence,
            lease=lease,
            provider_names=providers.names,
            backfill=backfill,
            reembedding=_reembedding(providers, vectors),
            usage=_usage_reports(settings, database, clock),
            circuits=circuits,
            metrics=metrics,
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
async def open_erasing(settings: Settings) -> AsyncIterator[Erasing]:
    """Erasures alone. Raises as `_operators_database`."""
    async with _operators_database(settings) as database:
        yield _erasing(database, await shared_secrets(database), SystemClock())


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[tuple[UsageReports, Backfill]]:
    """The providers' account, and what they owe. Raises as `_operators_database`."""
    async with _operators_database(settings) as database:
        backfill = Backfill(PostgresBackfillStore(database), circuits=())
        yield _usage_reports(settings, database, SystemClock()), backfill


@asynccontextmanager
async def open_reembedding(
    settings: Settings,
) -> AsyncIterator[tuple[Reembedding, Callable[[], Awaitable[int]]]]:
    """The change of the embedding model, and how many workers there are for it.

    Raises as `_operators_database`, and SetupError while embedding is switched off.
    """
    async with _operators_database(settings) as database:
        clock = SystemClock()
        cache = InProcessCache(size_bytes_max=LOCAL_VECTORS_BYTES, clock=clock)
        providers = await open_providers(settings, NoCircuits(), cache, clock)
        try:
            reembedding = _reembedding(providers, PostgresVectorModels(database))
            if reembedding is None:
                raise SetupError(
                    "MEMORY_EMBEDDING_ENABLED is false: there is nothing to embed with"
                )
            yield reembedding, lambda: live_worker_count(database)
        finally:
            await providers.close()


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
    cache = InProcessCache(size_bytes_max=LOCAL_VECTORS_BYTES, clock=clock)
    providers = await open_providers(settings, NoCircuits(), cache, clock)
    names = {}
    try:
        if providers.embedder is not None:
            embedding = await providers.embedder.embed_query(text)
            model = providers.embedder.model.id
            names["embedding"] = f"{model}, {len(embedding.vector)} dimensions"
        if providers.enricher is not None:
            now = SystemClock().now()
            await providers.enricher.enrich(EnrichmentRequest(content=text, occurred_at=now))
            names["enrichment"] = providers.enricher.name
    finally:
        await providers.close()
    return names


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
        command_timeout_seconds=_COMMAND_SECONDS[kind],
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


def _spending(settings: Settings, database: Database, clock: Clock) -> Spending | None:
    """None where nothing costs anything."""
    if not (settings.has_model_provider or settings.has_completion_provider):
        return None
    return Spending(
        PostgresUsageStore(database),
        prices=model_provider().model_prices(settings.openai_base_url),
        limits=daily_limits(settings),
        clock=clock,
    )


async def _serving(
    providers: Providers,
    settings: Settings,
    vectors: PostgresVectorModels,
    circuits: PostgresCircuits,
    clock: Clock,
) -> ServingEmbedders | None:
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
    return ServingEmbedders(
        embedder,
        model_id=model_id,
        models=vectors,
        open_other=lambda other: open_embedder(settings, circuits, clock, other),
        clock=clock,
    )


def _reembedding(providers: Providers, vectors: PostgresVectorModels) -> Reembedding | None:
    if providers.embedding_model_id is None:
        return None
    return Reembedding(vectors, model_id=providers.embedding_model_id, circuits=providers.circuits)


def _serve_metrics(settings: Settings, metrics: Metrics) -> None:
    """A worker answers no requests; this one of its own is for Prometheus alone."""
    port = settings.worker_metrics_port or 0
    try:
        start_http_server(port, addr="127.0.0.1", registry=metrics.registry)
    except OSError as error:
        log_event(
            Notice(
                f"MEMORY_WORKER_METRICS_PORT {port} cannot be used ({error.strerror}): this worker"
                " goes on without metrics",
                severity="warning",
            )
        )


async def _offer_backfill(backfill: Backfill, emit: Emit) -> None:
    """Say what was left out while a step was off: it may be on again."""
    owed = await backfill.owed(project_id=None, user_id=None)
    if owed.asked:
        emit(
            Notice(
                f"{owed.asked:,} blocks lack what was switched off when they came:"
                " `luma-memory backfill` makes it"
            )
        )


def _usage_reports(settings: Settings, database: Database, clock: Clock) -> UsageReports:
    return UsageReports(
        PostgresUsageStore(database),
        prices=lambda: prices_of(settings.openai_base_url),
        clock=clock,
    )


def _job_control(database: Database, settings: Settings) -> PostgresJobControl:
    return PostgresJobControl(database, attempts_max=settings.retry_attempts)


def _erasing(
    database: Database, secrets: Mapping[str, bytes], clock: Clock, *caches: ScopeCache
) -> Erasing:
    store = PostgresEraserStore(database)
    return Erasing(store, secret=secrets["receipts"], caches=caches, clock=clock)


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


def _windows(
    settings: Settings,
    database: Database,
    providers: Providers,
    serving: ServingEmbedders | None,
    spending: Spending | None,
    clock: Clock,
) -> SessionWindows:
    # Without a worker nobody would run their jobs.
    is_wanted = settings.context_vectors_enabled and settings.worker_enabled
    return SessionWindows(
        PostgresWindowStore(database),
        PostgresJobProducer(database, attempts_max=_attempts_max(settings)),
        embedder=providers.embedder if is_wanted else None,
        serving=serving,
        spending=spending,
        clock=clock,
    )


def _attempts_max(settings: Settings) -> int:
    """Attempts of a new job. Without a worker nobody would make a second one."""
    return settings.retry_attempts if settings.worker_enabled else 1


def _notices(settings: Settings) -> list[Notice]:
    return [
        Notice(
            f"{name} is not a setting of this service"
            + (f"; did you mean {nearest}?" if nearest else ""),
            severity="warning",
        )
        for name, nearest in unknown_variables().items()
    ]
