"""Versions of scopes in PostgreSQL."""

from __future__ import annotations

from luma_memory.domain.scope import Scope
from luma_memory.ports.search import ScopeState
from luma_memory.postgres.database import Database
from luma_memory.postgres.instants import aware
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresScopeVersions:
    """`ports.search.ScopeVersions` on PostgreSQL: two index lookups."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def state(self, scope: Scope) -> ScopeState:
        row = await self._database.fetch_row(_SQL["scope_state"], scope.project_id, scope.user_id)
        assert row is not None  # sub-selects without FROM
        return ScopeState(row["version"], row["read_at"], aware(row["next_expiry_at"]))
