"""The repositories of an API process that reads a replica, with a record of where reads went."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from luma_memory.bootstrap.placement import Placement, open_placement
from luma_memory.domain.block import Accepted
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import SearchResult
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.pipeline.recall.snapshots import Snapshots
from luma_memory.postgres.database import Database
from luma_memory.postgres.pooler import PoolerChoice
from luma_memory.postgres.replica import Replica
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.relations import PostgresRelationStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.snapshots import PostgresSnapshotStore
from luma_memory.telemetry.events import ReplicaRead
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import ingest_item, new_block
from luma_memory.testing.standby import Streaming

QUERY = "Where is the grey kayak?"
WAIT_SECONDS = 120.0


@dataclass
class Reader:
    """What one API process works with."""

    primary: Database
    placement: Placement
    replica: Replica
    events: EventLog
    snapshots: Snapshots | None = None
    _seen: int = field(default=0)

    def recall(self, snapshots: Snapshots | None = None) -> Recall:
        return Recall(
            self.placement.read_store(PostgresSearchStore),
            self.placement.read_store(lambda one: PostgresBlockStore(one, attempts_max=3)),
            embedder=WordEmbedder(),
            emit=self.events,
            relations=self.placement.read_store(PostgresRelationStore),
            snapshots=snapshots,
        )

    def new_snapshots(self) -> Snapshots:
        return Snapshots(self.placement.read_store(PostgresSnapshotStore), 1 << 28, SystemClock())

    async def write(self, scope: Scope, *texts: str) -> None:
        """Return when the primary has accepted them."""
        store = self.placement.store(lambda one: PostgresBlockStore(one, attempts_max=3))
        blocks = [new_block(text, user_id=scope.user_id) for text in texts]
        outcomes = await store.ingest([ingest_item(block) for block in blocks], lease=None)
        assert all(isinstance(one, Accepted) for one in outcomes), outcomes

    async def search(self, scope: Scope, query: str = QUERY, **fields: Any) -> SearchResult:
        return await self.recall(self.snapshots).search(
            SearchRequest(scope=scope, query=query, limit=50, **fields)
        )

    async def texts(self, scope: Scope, query: str = QUERY) -> set[str]:
        return {hit.block.content for hit in (await self.search(scope, query)).hits}

    def outcomes(self) -> Counter[str]:
        """Of the reads since the last call."""
        reads = self.events.of(ReplicaRead)
        new = Counter(read.outcome for read in reads[self._seen :])
        self._seen = len(reads)
        return new

    async def until_used(self, scope: Scope) -> None:
        """Search until all reads of a search are served by the replica."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                self.outcomes()
                await self.search(scope)
                if set(self.outcomes()) == {"used"}:
                    return
                await asyncio.sleep(0.02)

    async def until_left_alone(self, scope: Scope) -> float:
        """Search until the replica is not used; the longest search, in seconds."""
        longest = 0.0
        async with asyncio.timeout(WAIT_SECONDS):
            while self.replica.is_used:
                began = time.monotonic()
                await self.search(scope)
                longest = max(longest, time.monotonic() - began)
        return longest


@asynccontextmanager
async def reader_of(
    pair: Streaming, *, database: str = "luma_memory", at: str = "", pooler: PoolerChoice = "none"
) -> AsyncIterator[Reader]:
    """at: another address of the replica. Raises what `Replica.start` raises."""
    primary = Database(pair.primary.dsn(database), pool_size=4)
    placement = await open_placement(primary)
    there = Database(
        at or pair.standby.dsn(database), pool_size=4, pooler=pooler, notices_hanging=True
    )
    events = EventLog()
    replica = Replica(there, placement.home, events)
    try:
        await replica.start()
        placement_with = Placement(placement.home, placement.places, replica, events)
        yield Reader(primary, placement_with, replica, events)
    finally:
        await replica.close()
        if placement.places is not None:
            await placement.places.close()
        await primary.close()
