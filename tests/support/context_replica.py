"""One API process's way to contexts, with connections of its own; as many in a test as wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from luma_memory.cache.redis import RedisCache
from luma_memory.domain.clock import Clock, SystemClock
from luma_memory.domain.context import Context, ContextRequest, ContextResult
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.context.context import Contexts
from luma_memory.pipeline.context.context_cache import ContextCache
from luma_memory.pipeline.context.hit_counter import HitCounter
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.ports.cache import Cache
from luma_memory.ports.models import Embedder, Synthesizer
from luma_memory.postgres.database import Database
from luma_memory.providers.tokens import EstimatedTokens
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.cache_ledger import PostgresCacheLedger
from luma_memory.store.scope_versions import PostgresScopeVersions
from luma_memory.store.search import PostgresSearchStore
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder


@dataclass
class Replica:
    """The parts of one process."""

    database: Database
    cache: Cache
    contexts: Contexts
    recall: Recall
    events: EventLog = field(default_factory=EventLog)

    async def ask(self, scope: Scope, query: str, **changes: object) -> ContextResult:
        return await self.contexts.get_context(request(scope, query, **changes))

    async def fresh(self, scope: Scope, query: str) -> Context:
        """The answer as it is without any cache."""
        return (await self.contexts._compute(request(scope, query), {})).context


def request(scope: Scope, query: str, **changes: object) -> ContextRequest:
    """The request with what a test does not speak of."""
    values: dict[str, object] = {
        "blocks_max": 10,
        "token_budget": 2_000,
        "synthesize": True,
        "timeout_seconds": 10.0,
    }
    return ContextRequest(scope=scope, query=query, **(values | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def replica(
    dsn: str,
    redis_url: str | None = None,
    *,
    cache: Cache | None = None,
    embedder: Embedder | None = None,
    synthesizer: Synthesizer | None = None,
    clock: Clock | None = None,
    ttl: timedelta = timedelta(hours=1),
    timeout_seconds: float = 2.0,
    pool_size: int = 4,
    local_bytes_max: int = 1 << 20,
    spending: Spending | None = None,
) -> AsyncIterator[Replica]:
    """Opened and closed like a process."""
    events, clock = EventLog(), clock or SystemClock()
    # Hundreds ask at once, and a busy machine takes seconds for a few connections: with the
    # service's own limit of 5 s the last in the queue would receive its retryable error.
    database = Database(dsn, pool_size=pool_size, acquire_timeout_seconds=60.0)
    if cache is None:
        assert redis_url is not None
        cache = RedisCache(redis_url, timeout_seconds=timeout_seconds, emit=events)
    recall = Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=embedder or WordEmbedder(),
        emit=events,
        spending=spending,
    )
    counter = HitCounter(PostgresCacheLedger(database), clock=clock, emit=events)
    contexts = Contexts(
        recall,
        ContextCache(
            cache,
            PostgresScopeVersions(database),
            ttl=ttl,
            counter=counter,
            clock=clock,
            emit=events,
            local_bytes_max=local_bytes_max,
        ),
        synthesizer=synthesizer,
        tokens=EstimatedTokens(),
        configuration=("test",),
        emit=events,
        spending=spending,
    )
    try:
        yield Replica(database, cache, contexts, recall, events)
    finally:
        await contexts.close()
        await counter.close()
        await cache.close()
        await database.close()
