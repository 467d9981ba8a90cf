"""The search columns in PostgreSQL."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any

import asyncpg
import numpy as np

from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ItemSelection, ScanRequest, ScopeScan
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.postgres.vectors import encode_halfvec
from luma_memory.store.filters import FilterCondition
from luma_memory.store.item_selection import SelectionCondition
from luma_memory.telemetry.spans import traced

_SQL = SqlFile(__name__)

_FILTER_MARK = "/*filter*/"
_ITEMS_MARK = "/*items*/"
_BLOCKS_ONLY = "AND NOT m.item"
_ITEMS_ONLY = "AND m.item"
_SELECTED = """AND m.item AND m.block_id IN (
          SELECT b.id FROM memory_blocks AS b
          WHERE b.project_id = $1 AND b.user_id = $2 AND b.key IS NOT NULL{})"""
NARROWED = """AND m.block_id IN (
          SELECT b.id FROM memory_blocks AS b
          WHERE b.project_id = $1 AND b.user_id = $2 AND {})"""


class PostgresSearchStore:
    """`ports.search.SearchStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @traced("scan")
    async def scan(self, scope: Scope, request: ScanRequest) -> ScopeScan:
        vector = request.vector
        # Without a term no column uses the parameter, and PostgreSQL could not infer its type.
        terms = [list(request.terms)] if request.terms else []
        statement, narrowing = _scan_statement(len(request.terms)), tuple[Any, ...]()
        items, values = _items_condition(request.items, first=9 + len(terms))
        statement = statement.replace(_ITEMS_MARK, items)
        if request.filters is not None:
            condition = FilterCondition(request.filters, first=9 + len(terms) + len(values))
            statement = statement.replace(_FILTER_MARK, NARROWED.format(condition.text))
            narrowing = tuple(condition.values)
        row = await self._database.fetch_row(
            statement,
            scope.project_id,
            scope.user_id,
            None if vector is None else encode_halfvec(vector),
            None if vector is None else request.embedding_model,
            request.all_terms,
            list(request.names),
            request.as_of,
            request.include_superseded,
            *terms,
            *values,
            *narrowing,
        )
        assert row is not None  # an aggregate without GROUP BY
        return _scope_scan(row, len(request.terms))

    async def own_speaker(self, scope: Scope) -> str | None:
        row = await self._database.fetch_row(_SQL["own_speaker"], scope.project_id, scope.user_id)
        return None if row is None else str(row["speaker"])


def _items_condition(items: ItemSelection | None, *, first: int) -> tuple[str, Sequence[Any]]:
    """Which items take part, and the values of its parameters, the first with this number."""
    if items is None:
        return _BLOCKS_ONLY, ()
    if items.with_blocks:
        return "", ()
    if not items.prefix and not items.filter:
        return _ITEMS_ONLY, ()
    selection = SelectionCondition(
        items.prefix, items.filter or (), is_exact=items.is_exact, first=first
    )
    return _SELECTED.format(selection.text), selection.values


@cache
def _scan_statement(term_count: int) -> str:
    columns = "".join(
        f",\n       string_agg(float4send((-(p.lexemes <#> ($9::sparsevec[])[{n}]))::real), '')"
        f" FILTER (WHERE p.matched > 0) AS term_{n}"
        for n in range(1, term_count + 1)
    )
    return _SQL["scan_scope"].replace("/*term_columns*/", columns)


def _scope_scan(row: asyncpg.Record, term_count: int) -> ScopeScan:
    matched = np.frombuffer(row["matched"] or b"", dtype=">f4") > 0
    return ScopeScan(
        block_ids=row["block_ids"] or b"",
        ordinals=_native("i", row["ordinals"]),
        sessions=_native("q", row["sessions"]),
        instants=_native("q", row["instants"]),
        speakers=_native("q", row["speakers"]),
        dense=_native("f", row["dense"]),
        term_weights=[_spread(row[f"term_{n}"], matched) for n in range(1, term_count + 1)],
        name_keys=_native("i", row["name_keys"]),
    )


def _native(typecode: str, data: bytes | None) -> array:  # type: ignore[type-arg]
    values = array(typecode, data or b"")
    if sys.byteorder == "little":
        values.byteswap()
    return values


def _spread(
    weights: bytes | None, matched: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> array[float]:
    """Expand the weights of the matched rows to the whole column."""
    column = np.zeros(len(matched), dtype=np.float32)
    column[matched] = np.frombuffer(weights or b"", dtype=">f4")
    return array("f", column.tobytes())
