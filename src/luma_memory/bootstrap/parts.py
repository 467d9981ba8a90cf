"""Constructors shared by the service and the operator commands, one per part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from luma_memory.bootstrap.placement import Placement
from luma_memory.bootstrap.providers import (
    Providers,
    prices_of,
)
from luma_memory.cache.in_process import InProcessCache
from luma_memory.cache.redis import RedisCache
from luma_memory.domain.clock import Clock
from luma_memory.domain.loopback import is_loopback
from luma_memory.partitions.presence import PartitionedPresence
from luma_memory.partitions.queue import PartitionedQueue
from luma_memory.partitions.work_checks import WorkChecks
from luma_memory.pipeline.accounts.key_ring import KeyRing
from luma_memory.pipeline.accounts.usage import UsageReports
from luma_memory.pipeline.enrichment.reembed import Reembedding
from luma_memory.pipeline.ingest.erasing import Erasing
from luma_memory.ports.cache import Cache, ScopeCache
from luma_memory.ports.jobs import JobQueue
from luma_memory.postgres.database import Database
from luma_memory.providers.identity.open_id import (
    Issuer,
    OpenIdTokens,
    TokensOfIssuers,
    configured_issuer,
)
from luma_memory.providers.identity.supabase import supabase_issuer
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.session import WorkerSession
from luma_memory.settings import Settings
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.store.usage import PostgresUsageStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.telemetry.events import Emit


def detects_relations(settings: Settings) -> bool:
    """Whether blocks get a job for their relations: without a worker it would never run."""
    return (
        settings.relations_enabled
        and settings.worker_enabled
        and settings.relation_detection_rate_limit > 0
    )


def make_reembedding(providers: Providers, vectors: PostgresVectorModels) -> Reembedding | None:
    if providers.embedding_model_id is None:
        return None
    return Reembedding(vectors, model_id=providers.embedding_model_id, circuits=providers.circuits)


def make_queue(
    placement: Placement,
    checks: WorkChecks | None,
    *,
    attempts_max: int | None = None,
    delivers: bool = False,
) -> JobQueue:
    """The queue, of all partitions where there are several. delivers: claims deliveries only."""
    if placement.places is None:
        return PostgresJobQueue(placement.home, attempts_max=attempts_max)
    queues = [
        PostgresJobQueue(place.database, attempts_max=attempts_max, partition=place.number)
        for place in placement.places.all
    ]
    checks = checks or WorkChecks(placement.places, poll_seconds=1.0)
    return PartitionedQueue(placement.places, queues, checks, delivers=delivers)


def make_presence(
    placement: Placement, queue: JobQueue, worker_id: str, *, slots: int | None = None
) -> WorkerSession | PartitionedPresence:
    """The registration of a process that claims from this queue."""
    if placement.places is None:
        return WorkerSession(placement.home, worker_id, slots=slots)
    assert isinstance(queue, PartitionedQueue)
    return PartitionedPresence(placement.places, worker_id, slots=slots, queue=queue)


def usage_reports(settings: Settings, placement: Placement, clock: Clock) -> UsageReports:
    return UsageReports(
        placement.store(PostgresUsageStore),
        prices=lambda: prices_of(settings.openai_base_url),
        clock=clock,
    )


def job_control(placement: Placement, settings: Settings) -> PostgresJobControl:
    return placement.store(
        lambda partition: PostgresJobControl(partition, attempts_max=settings.retry_attempts)
    )


def make_erasing(
    placement: Placement, secrets: Mapping[str, bytes], clock: Clock, *caches: ScopeCache
) -> Erasing:
    store = placement.store(PostgresEraserStore)
    return Erasing(store, secret=secrets["receipts"], caches=caches, clock=clock)


def key_ring(database: Database, settings: Settings, clock: Clock) -> KeyRing:
    admin_key, tokens = settings.admin_key, _tokens(settings, clock)
    return KeyRing(
        PostgresKeyStore(database),
        admin_key=admin_key.get_secret_value() if admin_key is not None else None,
        tokens=tokens,
        open_without_keys=is_loopback(settings.host) and admin_key is None and tokens is None,
        required=not settings.auth_disabled,
        clock=clock,
    )


def token_issuers(settings: Settings) -> Sequence[Issuer]:
    """The issuers whose access tokens are accepted. Raises SetupError for incomplete settings."""
    issuers = [configured_issuer(settings.oidc_issuer, settings.oidc_audience)]
    if settings.supabase_url is not None:
        issuers.append(supabase_issuer(settings.supabase_url))
    return [issuer for issuer in issuers if issuer is not None]


def _tokens(settings: Settings, clock: Clock) -> TokensOfIssuers | None:
    issuers = token_issuers(settings)
    if not issuers:
        return None
    return TokensOfIssuers([OpenIdTokens(issuer, clock=clock) for issuer in issuers])


def make_cache(settings: Settings, clock: Clock, emit: Emit) -> Cache:
    if settings.redis_url is None:
        return InProcessCache(size_bytes_max=settings.cache_memory_mb << 20, clock=clock)
    return RedisCache(
        settings.redis_url.get_secret_value(),
        timeout_seconds=settings.cache_timeout_ms / 1000,
        emit=emit,
    )


def chosen_attempts(settings: Settings) -> int | None:
    """A worker's own limit for the jobs it claims, if one is set; None leaves each job its own."""
    return settings.retry_attempts if "retry_attempts" in settings.model_fields_set else None


def attempts_max(settings: Settings) -> int:
    """Attempts of a new job. Without a worker there is only one."""
    return settings.retry_attempts if settings.worker_enabled else 1
