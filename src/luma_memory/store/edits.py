"""What clients change after a block was accepted, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from luma_memory.domain.block import PassageText
from luma_memory.domain.revision import BlockRevision, RevisionPage
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresBlockEditor:
    """`ports.blocks.BlockEditor` on PostgreSQL. attempts_max: attempts a new job gets."""

    def __init__(self, database: Database, *, attempts_max: int) -> None:
        self._database = database
        self._attempts_max = attempts_max

    async def edit(
        self,
        scope: Scope,
        block_id: UUID,
        *,
        revision: int,
        changed_by: str,
        changes: Mapping[str, Any],
        content_hash: bytes | None,
        passages: Sequence[PassageText] | None,
    ) -> bool:
        row = await self._database.fetch_row(
            _SQL["edit_block"],
            scope.project_id,
            scope.user_id,
            block_id,
            revision,
            changed_by,
            changes,
            content_hash,
            *_passage_columns(passages),
            self._attempts_max,
        )
        return row is not None

    async def delete(
        self, scope: Scope, block_id: UUID, *, revision: int | None
    ) -> Literal["deleted", "missing", "stale"]:
        row = await self._database.fetch_row(
            _SQL["delete_block"],
            scope.project_id,
            scope.user_id,
            block_id,
            revision,
        )
        assert row is not None
        outcome: Literal["deleted", "missing", "stale"] = row["outcome"]
        return outcome

    async def revisions(
        self, scope: Scope, block_id: UUID, *, below: int | None, limit: int
    ) -> RevisionPage:
        rows = await self._database.fetch(
            _SQL["page_revisions"],
            scope.project_id,
            scope.user_id,
            block_id,
            below,
            limit + 1,
        )
        revisions = [BlockRevision(**row) for row in rows[:limit]]
        return RevisionPage(revisions, revisions[-1].id if len(rows) > limit else None)


def _passage_columns(passages: Sequence[PassageText] | None) -> Sequence[list[Any] | None]:
    if passages is None:
        return [None] * 4
    return (
        [passage.ordinal for passage in passages],
        [passage.start for passage in passages],
        [passage.stop for passage in passages],
        [passage.lexemes for passage in passages],
    )
