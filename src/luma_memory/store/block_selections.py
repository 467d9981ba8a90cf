"""`ports.block_selections.BlockSelectionStore` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from luma_memory.domain.block_selection import (
    FINGERPRINTS,
    BlockSelection,
    SelectedBlock,
    SelectedBlocks,
)
from luma_memory.domain.scope import Scope
from luma_memory.ports.block_selections import Chosen
from luma_memory.ports.blocks import BlockPage
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.blocks import BLOCK_COLUMNS, block_of
from luma_memory.store.filters import FilterCondition

_SQL = SqlFile(__name__)
_IDS: Final = (
    " AND uuid_send(b.id) = ANY (ARRAY(SELECT uuid_send(k.id) FROM unnest(${}::uuid[]) AS k (id)))"
)
# Blocks that one page examines: some tenths of a second.
EXAMINED_MAX: Final = 50_000


class PostgresBlockSelections:
    """A statement contains only the requested conditions, so that each gets a plan of its own.

    examined_max: blocks that one page examines.
    """

    def __init__(self, database: Database, *, examined_max: int = EXAMINED_MAX) -> None:
        self._database = database
        self._examined_max = examined_max

    async def page(
        self, selection: BlockSelection, *, before: UUID | None, limit: int
    ) -> BlockPage:
        where: list[Any] = [selection.project_id, selection.user_id, before]
        statement = _SQL["page_of_user"]
        if selection.user_id is None:
            where, statement = [selection.project_id, before], _SQL["page_of_project"]
        values = [*where, self._examined_max, limit + 1]
        statement = statement.replace("/*block_columns*/", BLOCK_COLUMNS)
        conditions = _conditions(selection, values)
        rows = await self._database.fetch(statement.replace("/*conditions*/", conditions), *values)
        found = [dict(row) for row in rows]
        is_bounded = bool(found) and found[-1]["n"] == self._examined_max
        fitting = [row for row in found if row["fits"]]
        blocks = [block_of(_without_marks(row)) for row in fitting[:limit]]
        if len(fitting) > limit:
            return BlockPage(blocks, blocks[-1].id)
        return BlockPage(blocks, found[-1]["id"] if is_bounded else None)

    async def chosen(
        self, selection: BlockSelection, *, through: UUID | None, limit: int
    ) -> Chosen:
        values: list[Any] = [through, limit]
        conditions = _owner(selection, values) + _conditions(selection, values)
        rows = await self._database.fetch(
            _SQL["select_blocks"].replace("/*conditions*/", conditions), *values
        )
        if not rows:
            return Chosen(SelectedBlocks(0, None, 0), [])
        whole = rows[0]
        return Chosen(
            SelectedBlocks(
                whole["blocks"], UUID(whole["newest"]), int(whole["fingerprints"]) % FINGERPRINTS
            ),
            [
                SelectedBlock(
                    Scope(row["project_id"], row["user_id"]), row["id"], row["fingerprint"]
                )
                for row in rows
            ],
        )

    async def delete(self, scope: Scope, ids: Sequence[UUID]) -> int:
        row = await self._database.fetch_row(
            _SQL["delete_selected"], scope.project_id, scope.user_id, list(ids)
        )
        assert row is not None
        return int(row["deleted"])


def _without_marks(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in row.items() if name not in ("n", "fits")}


def _owner(selection: BlockSelection, values: list[Any]) -> str:
    values.append(selection.project_id)
    text = f" AND b.project_id = ${len(values)}"
    if selection.user_id is not None:
        values.append(selection.user_id)
        text += f" AND b.user_id = ${len(values)}"
    return text


def _conditions(selection: BlockSelection, values: list[Any]) -> str:
    """The conditions besides the owner; their values are added to `values`."""
    text = ""
    if selection.status is not None:
        values.append(selection.status)
        text += f" AND b.status = ${len(values)}"
    if selection.session_id is not None:
        values.append(selection.session_id)
        text += f" AND b.session_id = ${len(values)}"
    if selection.ids is not None:
        values.append(list(selection.ids))
        # As the index on the id has it.
        text += _IDS.format(len(values))
    if selection.filters is not None:
        filters = FilterCondition(selection.filters, first=len(values) + 1)
        values.extend(filters.values)
        text += f" AND {filters.text}"
    return text
