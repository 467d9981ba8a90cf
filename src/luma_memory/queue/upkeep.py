"""Pruning and scheduling: `ports.jobs.QueueUpkeep` on memory_jobs."""

from __future__ import annotations

from datetime import datetime

from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresQueueUpkeep:
    """Every method is one bounded statement; any number of workers may call them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prune(
        self, *, completed_before: datetime, failed_before: datetime, limit: int
    ) -> int:
        row = await self._database.fetch_row(_SQL["prune"], completed_before, failed_before, limit)
        assert row is not None
        return int(row["deleted"])

    async def schedule_weekly_summaries(self, now: datetime, *, limit: int) -> int:
        row = await self._database.fetch_row(_SQL["schedule_weekly_summaries"], now, limit)
        assert row is not None
        return int(row["made"])
