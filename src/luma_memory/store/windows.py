"""Sessions and the windows of their turns: `ports.windows.WindowStore` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from luma_memory.domain.scope import Scope
from luma_memory.domain.windows import MadeWindow, Place, Turn, WindowMark
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.postgres.vectors import encode_halfvec

_SQL = SqlFile(__name__)


class PostgresWindowStore:
    """Each method is one statement in its own transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def turns(
        self, scope: Scope, session_id: str, start: Place, *, limit: int, before: int, text: int
    ) -> Sequence[Turn]:
        rows = await self._database.fetch(
            _SQL["session_turns"],
            scope.project_id,
            scope.user_id,
            session_id,
            start.at,
            start.block_id,
            limit,
            before,
            text,
        )
        return [
            Turn(
                place=Place(row["at"], row["id"]),
                revision=row["revision"],
                speaker=row["speaker"],
                text=row["text"],
                is_before=row["is_before"],
                window=None
                if row["fingerprint"] is None
                else WindowMark(row["fingerprint"], row["embedding_model"]),
            )
            for row in rows
        ]

    async def sessions(self, scope: Scope, *, after: str, limit: int) -> Sequence[str]:
        rows = await self._database.fetch(
            _SQL["list_sessions"], scope.project_id, scope.user_id, after, limit
        )
        return [row["session_id"] for row in rows]

    async def store(
        self,
        scope: Scope,
        made: Sequence[MadeWindow],
        *,
        embedding_model: str,
        dropped: Sequence[UUID],
        turns: Sequence[UUID],
    ) -> None:
        await self._database.execute(
            _SQL["store_windows"],
            scope.project_id,
            scope.user_id,
            [window.block_id for window in made],
            [window.fingerprint for window in made],
            [encode_halfvec(window.vector) for window in made],
            embedding_model,
            list(dropped),
            list(turns),
        )
