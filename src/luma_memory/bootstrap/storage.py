"""The database with the stores over it, and the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from luma_memory.bootstrap.database import database_address, open_database, open_replica
from luma_memory.bootstrap.parts import (
    attempts_max,
    chosen_attempts,
    detects_relations,
    make_cache,
    make_queue,
)
from luma_memory.bootstrap.placement import Placement, open_placement
from luma_memory.bootstrap.process import Process
from luma_memory.partitions.work_checks import WorkChecks
from luma_memory.ports.cache import Cache
from luma_memory.ports.jobs import JobQueue
from luma_memory.postgres.database import Database
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.secrets import shared_secrets
from luma_memory.store.users import PostgresUserStore
from luma_memory.store.vector_models import PostgresVectorModels


@dataclass(frozen=True, slots=True)
class Storage:
    """Stores and cache shared by several groups."""

    database: Database  # the home partition: what an installation has once
    placement: Placement
    cache: Cache
    blocks: PostgresBlockStore
    queue: JobQueue
    checks: WorkChecks | None  # None with one partition
    circuits: PostgresCircuits
    relations: PostgresRelationStore
    users: PostgresUserStore
    vectors: PostgresVectorModels
    secrets: Mapping[str, bytes]


async def open_storage(process: Process) -> Storage:
    """Raises as `open_database`."""
    settings, stack = process.settings, process.stack
    dsn = await stack.enter_async_context(database_address(settings))
    server = await open_database(dsn, settings, stack, process.kind)
    placement = await open_placement(server)
    if process.kind == "api":  # workers read what they are about to change
        count = 1 if placement.places is None else placement.places.count
        replica = await open_replica(settings, placement.home, count, stack, process.emit)
        placement = replace(placement, replica=replica, emit=process.emit)
    database, checks = placement.home, None
    if placement.places is not None:
        stack.push_async_callback(placement.places.close)
        placement.places.watch()
        checks = WorkChecks(placement.places, poll_seconds=settings.worker_poll_interval_ms / 1000)
    cache = make_cache(settings, process.clock, process.emit)
    stack.push_async_callback(cache.close)
    return Storage(
        database=database,
        placement=placement,
        cache=cache,
        blocks=placement.store(
            lambda partition: PostgresBlockStore(
                partition, attempts_max=attempts_max(settings), relates=detects_relations(settings)
            )
        ),
        queue=make_queue(placement, checks, attempts_max=chosen_attempts(settings)),
        checks=checks,
        circuits=PostgresCircuits(database),
        relations=placement.store(PostgresRelationStore),
        users=placement.store(PostgresUserStore),
        vectors=placement.store(PostgresVectorModels),
        secrets=await shared_secrets(database),
    )
