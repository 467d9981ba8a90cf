"""The database with the stores over it, and the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from luma_memory.bootstrap.database import database_address, open_database
from luma_memory.bootstrap.parts import attempts_max, chosen_attempts, detects_relations, make_cache
from luma_memory.bootstrap.process import Process
from luma_memory.ports.cache import Cache
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.circuits import PostgresCircuits
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.secrets import shared_secrets
from luma_memory.store.users import PostgresUserStore
from luma_memory.store.vector_models import PostgresVectorModels


@dataclass(frozen=True, slots=True)
class Storage:
    """Stores and cache shared by several groups."""

    database: Database
    cache: Cache
    blocks: PostgresBlockStore
    queue: PostgresJobQueue
    circuits: PostgresCircuits
    relations: PostgresRelationStore
    users: PostgresUserStore
    vectors: PostgresVectorModels
    secrets: Mapping[str, bytes]


async def open_storage(process: Process) -> Storage:
    """Raises as `open_database`."""
    settings, stack = process.settings, process.stack
    dsn = await stack.enter_async_context(database_address(settings))
    database = await open_database(dsn, settings, stack, process.kind)
    cache = make_cache(settings, process.clock, process.emit)
    stack.push_async_callback(cache.close)
    return Storage(
        database=database,
        cache=cache,
        blocks=PostgresBlockStore(
            database, attempts_max=attempts_max(settings), relates=detects_relations(settings)
        ),
        queue=PostgresJobQueue(database, attempts_max=chosen_attempts(settings)),
        circuits=PostgresCircuits(database),
        relations=PostgresRelationStore(database),
        users=PostgresUserStore(database),
        vectors=PostgresVectorModels(database),
        secrets=await shared_secrets(database),
    )
