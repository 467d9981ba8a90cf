"""Erasure of all data of a user in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from luma_memory.domain.erasure import Erasure
from luma_memory.domain.errors import InvariantError
from luma_memory.domain.scope import Scope
from luma_memory.ports.archive import Remains
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)

# Job ids per step: some tens of milliseconds each.
SWEEP_JOBS = 200_000
# A user with a million blocks takes most of a minute.
ERASE_SECONDS = 300.0


class PostgresEraserStore:
    """`ports.archive.EraserStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sweep_jobs(self, scope: Scope) -> tuple[int, int]:
        span = await self._row("job_span")
        first, last = (span["first"], span["last"]) if span is not None else (0, 0)
        swept = 0
        after = first - 1
        while after < last:
            row = await self._row("sweep_jobs", scope.project_id, scope.user_id, after, SWEEP_JOBS)
            swept += row["deleted"] if row is not None else 0
            # Where the partition was moved, its ids are in ranges that are far apart.
            following = await self._row("next_job", after + SWEEP_JOBS)
            if following is None or following["id"] is None:
                break
            after = following["id"] - 1
        return swept, last

    async def erase(
        self,
        scope: Scope,
        *,
        erasure_id: UUID,
        key_digest: bytes | None,
        started_at: datetime,
        last_job: int,
        swept: int,
        cached: int,
    ) -> Erasure | None:
        try:
            async with self._database.connection() as connection:
                row = await connection.fetchrow(
                    _SQL["erase_user"],
                    scope.project_id,
                    scope.user_id,
                    erasure_id,
                    key_digest,
                    started_at,
                    last_job,
                    swept,
                    cached,
                    timeout=ERASE_SECONDS,
                )
        except InvariantError as error:
            if isinstance(error.__cause__, asyncpg.UniqueViolationError):
                return None
            raise
        assert row is not None
        return Erasure(erasure_id, row["counts"], started_at, row["erased_at"])

    async def revoke_keys(self, scope: Scope) -> int:
        """Revoke the keys for this user and forget whose they were, as `erase` does; how many."""
        row = await self._row("revoke_user_keys", scope.project_id, scope.user_id)
        return int(row["revoked"]) if row is not None else 0

    async def count_keys(self, scope: Scope, erasure_id: UUID, revoked: int) -> None:
        """Add revoked keys of another partition to the record of an erasure."""
        await self._database.execute(
            _SQL["count_keys"], scope.project_id, scope.user_id, erasure_id, revoked
        )

    async def find(
        self, scope: Scope, *, erasure_id: UUID | None, key: bytes | None
    ) -> Erasure | None:
        row = await self._row("find_erasure", scope.project_id, scope.user_id, erasure_id, key)
        return Erasure(**row) if row is not None else None

    async def remains(self, scope: Scope) -> Remains:
        rows = await self._database.fetch(_SQL["count_user_rows"], scope.project_id, scope.user_id)
        since = await self._row("user_since", scope.project_id, scope.user_id)
        return Remains(
            {row["name"]: row["count"] for row in rows if row["count"]},
            since["created_at"] if since is not None else None,
        )

    async def _row(self, name: str, *values: Any) -> asyncpg.Record | None:
        return await self._database.fetch_row(_SQL[name], *values)
