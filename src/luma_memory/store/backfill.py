"""Blocks with a pending backfill: `ports.backfill.BackfillStore` on memory_blocks."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.enrichment import PendingBackfillCounts
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresBackfillStore:
    """Every method is one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def enqueue_due(self, *, open_max: int, circuits: Sequence[str]) -> int:
        row = await self._database.fetch_row(_SQL["enqueue_backfill"], open_max, list(circuits))
        assert row is not None
        return int(row["made"])

    async def request(self, *, project_id: str | None, user_id: str | None, limit: int) -> int:
        row = await self._database.fetch_row(_SQL["request_backfill"], project_id, user_id, limit)
        assert row is not None
        return int(row["changed"])

    async def pending_counts(
        self, *, project_id: str | None, user_id: str | None
    ) -> PendingBackfillCounts:
        row = await self._database.fetch_row(_SQL["count_pending_backfill"], project_id, user_id)
        assert row is not None
        return PendingBackfillCounts(**dict(row))
