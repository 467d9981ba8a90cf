"""The stream of events in PostgreSQL: `ports.webhooks.EventStore`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from luma_memory.domain.webhook import Event
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.webhooks import event_of

_SQL = SqlFile(__name__)

# One statement places so many: some milliseconds.
PLACE_ROWS = 1_000
PLACE_BATCHES_MAX = 100


class PostgresEventStore:
    """Positions are assigned on reading: events that are never read as a stream cost no update."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._placing = asyncio.Lock()

    async def subscribe(self, project_id: str, now: datetime) -> int:
        row = await self._database.fetch_row(_SQL["subscribe"], project_id, now)
        assert row is not None
        return int(row["gone_until"])

    async def end(self) -> int:
        await self._place()
        return await self.last_position()

    async def events(
        self, project_id: str, *, user_id: str | None, types: Sequence[str], after: int, limit: int
    ) -> tuple[Sequence[Event], int]:
        await self._place()
        return await self.read(project_id, user_id=user_id, types=types, after=after, limit=limit)

    async def read(
        self, project_id: str, *, user_id: str | None, types: Sequence[str], after: int, limit: int
    ) -> tuple[Sequence[Event], int]:
        """`events` of those that have a position already."""
        rows = await self._database.fetch(
            _SQL["read_events"], project_id, after, user_id, list(types), limit
        )
        found = [event_of(row) for row in rows if row["event_id"] is not None]
        if len(found) == limit:
            return found, found[-1].position
        return found, max(after, rows[0]["last"])

    async def _place(self) -> None:
        for _ in range(PLACE_BATCHES_MAX):
            row = await self._database.fetch_row(_SQL["place_events"], PLACE_ROWS)
            if row is None or row["placed"] < PLACE_ROWS:
                return

    @asynccontextmanager
    async def positions(self) -> AsyncIterator[Callable[[int], Awaitable[Sequence[int]]]]:
        """Gives positions to events of other partitions; one caller at a time, in any process.

        Yields a function that takes so many of them, in order. The caller needs another connection
        meanwhile; so callers of this process wait for each other without one.
        """

        async def take(count: int) -> Sequence[int]:
            rows = await self._database.fetch(_SQL["take_positions"], count)
            return [row["position"] for row in rows]

        async with self._placing, self._database.transaction():
            await self._database.execute(_SQL["lock_positions"])
            yield take

    async def last_position(self) -> int:
        """The last one that was given to any event."""
        row = await self._database.fetch_row(_SQL["last_position"])
        assert row is not None
        return int(row["position"])

    async def unplaced(self, limit: int) -> int:
        """How many committed events have no position, up to `limit`."""
        row = await self._database.fetch_row(_SQL["unplaced_events"], limit)
        assert row is not None
        return int(row["events"])

    async def place(self, positions: Sequence[int]) -> None:
        """Give the first events without a position these ones."""
        await self._database.execute(_SQL["place_at"], positions)


async def continue_positions(home: Database, partition: Database) -> None:
    """Let new positions be behind those of a partition's events, which are newer than a backup."""
    row = await partition.fetch_row(_SQL["highest_position"])
    assert row is not None
    await home.execute(_SQL["continue_positions"], row["position"])
