"""The counts of the context cache, of all processes, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from luma_memory.domain.cache import CacheCounts
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresCacheLedger:
    """`ports.cache.CacheLedger` on PostgreSQL: one row an hour, kept for two days."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, counts: Mapping[datetime, CacheCounts]) -> None:
        await self._database.fetch(
            _SQL["add_cache_counts"],
            list(counts),
            [count.hits for count in counts.values()],
            [count.misses for count in counts.values()],
        )

    async def since(self, hour: datetime) -> CacheCounts:
        row = await self._database.fetch_row(_SQL["sum_cache_counts"], hour)
        assert row is not None  # an aggregate without GROUP BY
        return CacheCounts(row["hits"], row["misses"])
