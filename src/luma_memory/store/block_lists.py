"""`ports.block_lists.BlockListStore` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from luma_memory.domain.block import Block
from luma_memory.domain.scope import Scope
from luma_memory.ports.block_lists import (
    BlockChoice,
    BlockGroup,
    GroupKind,
    GroupPage,
    NumberedPage,
)
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.blocks import BLOCK_COLUMNS, block_of
from luma_memory.store.filters import FilterCondition

_SQL = SqlFile(__name__)
_COLUMNS_MARK = "/*block_columns*/"
_CONDITIONS_MARK = "/*conditions*/"


class PostgresBlockLists:
    """Statements over blocks of one project; a caller of one user passes that user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, project_id: str, ids: Sequence[UUID], *, user_id: str | None
    ) -> Sequence[Block]:
        statement = _SQL["find_blocks"].replace(_COLUMNS_MARK, BLOCK_COLUMNS)
        rows = await self._database.fetch(statement, project_id, list(ids), user_id)
        return [block_of(row) for row in rows]

    async def page(self, choice: BlockChoice, *, offset: int, limit: int) -> NumberedPage:
        if not choice.scopes:
            return NumberedPage([], 0)
        statement = _SQL["page_chosen"].replace(_COLUMNS_MARK, BLOCK_COLUMNS)
        rows = await self._database.fetch(*_chosen(statement, choice, limit, offset))
        counted = await self._database.fetch_row(*_chosen(_SQL["count_chosen"], choice))
        assert counted is not None
        return NumberedPage([block_of(row) for row in rows], counted["blocks"])

    async def ids(self, choice: BlockChoice, *, limit: int) -> Sequence[tuple[Scope, UUID]]:
        if not choice.scopes:
            return []
        return _keys(await self._database.fetch(*_chosen(_SQL["ids_chosen"], choice, limit)))

    async def ids_of_group(
        self, project_id: str, kind: GroupKind, name: str, *, user_id: str | None, limit: int
    ) -> Sequence[tuple[Scope, UUID]]:
        statement = _SQL["ids_of_group"]
        return _keys(await self._database.fetch(statement, project_id, kind, name, user_id, limit))

    async def replaced_by(self, scope: Scope, block_id: UUID) -> Sequence[UUID]:
        rows = await self._database.fetch(
            _SQL["replaced_by"], scope.project_id, scope.user_id, block_id
        )
        return [row["id"] for row in rows]

    async def groups(
        self, project_id: str, *, user_id: str | None, offset: int, limit: int
    ) -> GroupPage:
        rows = await self._database.fetch(_SQL["page_groups"], project_id, user_id, limit, offset)
        groups = [BlockGroup(*list(row)[:5]) for row in rows]
        return GroupPage(groups, rows[0]["groups"] if rows else 0)

    async def delete(self, scope: Scope, ids: Sequence[UUID]) -> int:
        row = await self._database.fetch_row(
            _SQL["delete_blocks"], scope.project_id, scope.user_id, list(ids)
        )
        assert row is not None
        deleted: int = row["deleted"]
        return deleted


def _keys(rows: Sequence[asyncpg.Record]) -> Sequence[tuple[Scope, UUID]]:
    return [(Scope(row["project_id"], row["user_id"]), row["id"]) for row in rows]


def _chosen(statement: str, choice: BlockChoice, *paging: int) -> tuple[str, *tuple[Any, ...]]:
    """A statement with one condition a scope, and its parameters."""
    values: list[Any] = [choice.include_expired, choice.include_superseded, *paging]
    conditions = []
    for scope, narrowing in choice.scopes.items():
        first = len(values) + 1
        values += [scope.project_id, scope.user_id]
        condition = f"b.project_id = ${first} AND b.user_id = ${first + 1}"
        if narrowing is not None:
            narrowed = FilterCondition(narrowing, first=len(values) + 1)
            values += narrowed.values
            condition += f" AND {narrowed.text}"
        conditions.append(f"({condition})")
    return statement.replace(_CONDITIONS_MARK, " OR ".join(conditions)), *values
