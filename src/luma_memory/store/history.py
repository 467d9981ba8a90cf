"""`ports.history.HistoryStore` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from luma_memory.domain.history import Resolution
from luma_memory.ports.history import HistoryRow
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresHistory:
    """A bounded number of rows, written by a function that any process may call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, sums: Mapping[str, float], peaks: Mapping[str, float]) -> bool:
        row = await self._database.fetch_row(_SQL["add_history"], dict(sums), dict(peaks))
        assert row is not None
        return bool(row["began"])

    async def read(
        self, resolution: Resolution, *, since: datetime, until: datetime
    ) -> Sequence[HistoryRow]:
        rows = await self._database.fetch(_SQL["read_history"], resolution, since, until)
        return [HistoryRow(**dict(row)) for row in rows]
