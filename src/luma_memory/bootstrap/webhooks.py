"""Webhooks: their endpoints for the API, and their deliveries for the workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from luma_memory.bootstrap.parts import make_presence, make_queue
from luma_memory.bootstrap.placement import Placement
from luma_memory.bootstrap.process import Process
from luma_memory.bootstrap.storage import Storage
from luma_memory.domain.errors import SetupError
from luma_memory.domain.job import Handler
from luma_memory.domain.partition import HOME
from luma_memory.partitions.webhooks import ByPartition, PartitionedDeliveries
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.pipeline.webhooks.deliver import DeliverWebhooks, job_seconds
from luma_memory.pipeline.webhooks.endpoints import Webhooks
from luma_memory.ports.jobs import JobQueue, JobSignal, WorkerPresence
from luma_memory.ports.webhooks import DeliveryUpkeep
from luma_memory.postgres.database import Database
from luma_memory.providers.webhooks.addresses import check_url
from luma_memory.providers.webhooks.sender import HttpWebhookSender
from luma_memory.queue.session import new_worker_id
from luma_memory.settings import Settings
from luma_memory.store.keys import PostgresKeyStore
from luma_memory.store.webhooks import PostgresDeliveryStore, PostgresWebhookStore
from luma_memory.telemetry.logs import log_failure

# A worker that is late to record a result has this long before its job goes to another one.
_LEASE_MARGIN = timedelta(seconds=10)
_RECORD_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What a worker delivers with; the presence starts with it."""

    queue: JobQueue
    store: DeliveryUpkeep
    runner: JobRunner
    presence: WorkerPresence
    lease: timedelta


def make_webhooks(process: Process, storage: Storage, signal: JobSignal) -> Webhooks:
    settings = process.settings
    return Webhooks(
        storage.placement.store(PostgresWebhookStore),
        root=_root(storage),
        check_url=partial(check_url, allow_private=settings.webhooks_allow_private),
        clock=process.clock,
        signal=signal,
        can_deliver=settings.worker_enabled,
    )


def make_deliveries(process: Process, storage: Storage) -> Deliveries:
    """Starts nothing."""
    settings, stack = process.settings, process.stack
    seconds = settings.webhook_timeout_ms / 1000
    sender = HttpWebhookSender(
        timeout_seconds=seconds, allow_private=settings.webhooks_allow_private
    )
    stack.push_async_callback(sender.close)
    placement = storage.placement
    stores = placement.stores(partial(_delivery_store, storage))
    handlers = [
        DeliverWebhooks(
            store,
            sender,
            root=_root(storage),
            unit=timedelta(milliseconds=settings.webhook_retry_ms),
            request_seconds=seconds,
            clock=process.clock,
            emit=process.emit,
        )
        for store in stores
    ]
    # Not counted as a worker: it shares the process of one.
    worker_id = new_worker_id("webhooks")
    queue = make_queue(placement, storage.checks, delivers=True)
    presence = make_presence(placement, queue, worker_id)
    stack.push_async_callback(presence.stop)
    timeout = timedelta(seconds=job_seconds(seconds))
    runner = JobRunner(
        queue,
        {"deliver_webhook": _handler(placement, handlers)},
        worker_id=worker_id,
        timeout=timeout,
        backoff=_backoff(settings),
        record_timeout=_RECORD_TIMEOUT,
        clock=process.clock,
        emit=process.emit,
        report_bug=log_failure,
        was_away_since=placement.was_away_since,
        is_parted=placement.places is not None,
    )
    upkeep = _delivery_upkeep(process, storage, stores)
    return Deliveries(queue, upkeep, runner, presence, timeout + _LEASE_MARGIN)


def _delivery_store(storage: Storage, partition: Database) -> PostgresDeliveryStore:
    if storage.placement.places is None or partition is storage.database:
        return PostgresDeliveryStore(partition)
    keys = PostgresKeyStore(storage.database)

    async def may_read(prefix: str) -> bool:
        found = await keys.find(prefix)
        return (
            found is not None and found.key.revoked_at is None and "read" in found.key.permissions
        )

    return PostgresDeliveryStore(partition, may_read=may_read)


def _handler(placement: Placement, handlers: Sequence[DeliverWebhooks]) -> Handler:
    if placement.places is None:
        return handlers[HOME]
    return ByPartition(placement.places, handlers)


def _delivery_upkeep(
    process: Process, storage: Storage, stores: Sequence[PostgresDeliveryStore]
) -> DeliveryUpkeep:
    places, checks = storage.placement.places, storage.checks
    if places is None or checks is None:
        return stores[HOME]
    webhooks = storage.placement.stores(PostgresWebhookStore)
    return PartitionedDeliveries(places, stores, webhooks, checks, process.clock.monotonic)


def _backoff(settings: Settings) -> timedelta:
    return timedelta(milliseconds=settings.retry_backoff_ms)


def _root(storage: Storage) -> bytes:
    """Raises SetupError if the schema is older than webhooks."""
    root = storage.secrets.get("webhooks")
    if root is None:
        raise SetupError("The secret of webhooks is missing: run `luma-memory migrate`.")
    return root
