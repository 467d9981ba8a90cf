"""The parts that operator commands need while the service may be down, one each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from luma_memory.bootstrap.database import operators_database
from luma_memory.bootstrap.parts import (
    job_control,
    make_erasing,
    make_queue,
    make_reembedding,
    usage_reports,
)
from luma_memory.bootstrap.placement import operators_placement
from luma_memory.bootstrap.providers import (
    LOCAL_VECTORS_BYTES,
    open_providers,
)
from luma_memory.cache.in_process import InProcessCache
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.errors import SetupError
from luma_memory.pipeline.accounts.keys import Keys
from luma_memory.pipeline.accounts.usage import UsageReports
from luma_memory.pipeline.enrichment.backfill import Backfill
from luma_memory.pipeline.enrichment.reembed import Reembedding
from luma_memory.pipeline.ingest.erasing import Erasing
from luma_memory.pipeline.jobs.job_control import Jobs
from luma_memory.pipeline.knowledge.relate import RelationBacklog
from luma_memory.providers.breaker import NoCircuits
from luma_memory.queue.session import live_worker_count
from luma_memory.settings import Settings
from luma_memory.store.backfill import PostgresBackfillStore
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.secrets import shared_secrets
from luma_memory.store.vector_models import PostgresVectorModels


@asynccontextmanager
async def open_jobs(settings: Settings) -> AsyncIterator[Jobs]:
    """The queue alone; workers find new jobs at their next poll.

    Raises as `operators_database`.
    """
    async with operators_placement(settings) as placement:
        yield Jobs(job_control(placement, settings), make_queue(placement, None), signal=None)


@asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[Keys]:
    """The API keys alone. Raises as `operators_database`."""
    async with operators_database(settings) as database:
        yield Keys(PostgresKeyStore(database), clock=SystemClock())


@asynccontextmanager
async def open_erasing(settings: Settings) -> AsyncIterator[Erasing]:
    """Erasures alone. Raises as `operators_database`."""
    async with operators_placement(settings) as placement:
        secrets = await shared_secrets(placement.home)
        yield make_erasing(placement, secrets, SystemClock())


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[tuple[UsageReports, Backfill]]:
    """Usage reports and pending backfill. Raises as `operators_database`."""
    async with operators_placement(settings) as placement:
        backfill = Backfill(placement.store(PostgresBackfillStore), circuits=())
        yield usage_reports(settings, placement, SystemClock()), backfill


@asynccontextmanager
async def open_relation_backlog(settings: Settings) -> AsyncIterator[RelationBacklog]:
    """Blocks whose relations were never detected. Raises as `operators_database`."""
    async with operators_placement(settings) as placement:
        store = placement.store(PostgresRelationStore)
        yield RelationBacklog(store, attempts_max=settings.retry_attempts)


@asynccontextmanager
async def open_reembedding(
    settings: Settings,
) -> AsyncIterator[tuple[Reembedding, Callable[[], Awaitable[int]]]]:
    """The switch of the embedding model, and the number of workers available for it.

    Raises as `operators_database`, and SetupError if embedding is disabled.
    """
    async with operators_placement(settings) as placement:
        clock = SystemClock()
        cache = InProcessCache(size_bytes_max=LOCAL_VECTORS_BYTES, clock=clock)
        providers = await open_providers(settings, NoCircuits(), cache, clock)
        try:
            reembedding = make_reembedding(providers, placement.store(PostgresVectorModels))
            if reembedding is None:
                raise SetupError(
                    "MEMORY_EMBEDDING_ENABLED is false: there is nothing to embed with"
                )
            yield reembedding, lambda: live_worker_count(placement.home)
        finally:
            await providers.close()
