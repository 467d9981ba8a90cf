"""The checks of `luma-memory doctor` for each dependency."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.bootstrap.partitions import PartitionReport, Partitions
from luma_memory.bootstrap.parts import make_cache
from luma_memory.bootstrap.providers import (
    LOCAL_VECTORS_BYTES,
    open_providers,
)
from luma_memory.cache.in_process import InProcessCache
from luma_memory.domain.cache import CacheFacts
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.database_facts import DatabaseFacts
from luma_memory.domain.enrichment import EnrichmentRequest
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable
from luma_memory.postgres.database import Database
from luma_memory.postgres.inspection import inspect_database
from luma_memory.postgres.replica import NOT_A_REPLICA as NOT_A_REPLICA
from luma_memory.postgres.replica import ServerFacts, about_replica, check_replica, server_facts
from luma_memory.providers.breaker import NoCircuits
from luma_memory.providers.embedding.weights import check_tokenizer, check_weights, find_model
from luma_memory.settings import Settings
from luma_memory.telemetry.logs import log_event


async def database_facts(dsn: str) -> DatabaseFacts:
    """The state of the database; changes nothing. Raises StoreUnavailable or SetupError."""
    database = Database(dsn, pool_size=2)
    try:
        return await inspect_database(database)
    finally:
        await database.close()


async def partition_reports(dsn: str) -> Sequence[PartitionReport]:
    """The partitions of a database with a current schema; none if it is the only one."""
    database = Database(dsn, pool_size=1)
    try:
        return await Partitions(database).reports()
    finally:
        await database.close()


async def replica_facts(primary_dsn: str, settings: Settings) -> ServerFacts:
    """The state of the replica; changes nothing. Raises StoreUnavailable or SetupError, also for
    what is no replica that could be read."""
    assert settings.database_read_url is not None
    home = Database(primary_dsn, pool_size=1)
    there = Database(settings.database_read_url.get_secret_value(), pool_size=1)
    try:
        primary = await server_facts(home)
        try:
            facts = await server_facts(there)
        except LumaMemoryError as error:
            raise StoreUnavailable(about_replica(error)) from error
        check_replica(facts, primary)
        return facts
    finally:
        await there.close()
        await home.close()


async def cache_facts(settings: Settings) -> CacheFacts:
    """The state of the configured cache; changes nothing and never raises."""
    cache = make_cache(settings, SystemClock(), log_event)
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
    """Embed and enrich a text with the configured providers; returns their names.

    A model provider's calls cost money. Raises the providers' errors.
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
