"""Usage of the providers: `ports.accounts.UsageStore` on memory_usage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

import asyncpg

from luma_memory.domain.scope import Scope
from luma_memory.domain.usage import Spent, UsageEntry, UsageFilter, UsageKey
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresUsageStore:
    """One row per day, scope, operation and model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entries: Sequence[UsageEntry]) -> Collection[Scope]:
        locked = await self._database.fetch(
            _SQL["add_usage"],
            [entry.key.day for entry in entries],
            [entry.key.scope.project_id for entry in entries],
            [entry.key.scope.user_id for entry in entries],
            [entry.key.operation for entry in entries],
            [entry.key.model for entry in entries],
            [entry.spent.calls for entry in entries],
            [entry.spent.input_tokens for entry in entries],
            [entry.spent.output_tokens for entry in entries],
            [entry.spent.cost_usd for entry in entries],
            [entry.spent.blocks for entry in entries],
        )
        return {Scope(row["project_id"], row["user_id"]) for row in locked}

    async def spent(self, keys: Sequence[tuple[Scope, date]]) -> Sequence[Spent]:
        rows = await self._database.fetch(
            _SQL["spent"],
            [scope.project_id for scope, _ in keys],
            [scope.user_id for scope, _ in keys],
            [day for _, day in keys],
        )
        return [_spent(row) for row in rows]

    async def lines(self, which: UsageFilter, *, limit: int) -> Sequence[UsageEntry]:
        rows = await self._database.fetch(
            _SQL["usage_lines"],
            which.project_id,
            which.user_id,
            which.since,
            which.until,
            limit,
        )
        scope = Scope(which.project_id or "", which.user_id or "")
        return [
            UsageEntry(UsageKey(row["day"], scope, row["operation"], row["model"]), _spent(row))
            for row in rows
        ]


def _spent(row: asyncpg.Record) -> Spent:
    return Spent(
        int(row["calls"]),
        int(row["input_tokens"]),
        int(row["output_tokens"]),
        row["cost_usd"],
        int(row["blocks"]),
    )
