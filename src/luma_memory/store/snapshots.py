"""The rows of a scope as a copy in memory needs them, in PostgreSQL."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import numpy as np

from luma_memory.domain.scope import Scope
from luma_memory.domain.search import (
    LookUp,
    RowKind,
    ScopeChanges,
    ScopeMark,
    ScopeRows,
    Selection,
)
from luma_memory.ports.search import RowPage
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.store.filters import FilterCondition
from luma_memory.store.item_selection import SelectionCondition

_SQL = SqlFile(__name__)
# More changed blocks than this are read with the rest of the scope.
CHANGED_BLOCKS_MAX: Final = 256
_ID_BYTES: Final = 16
_NO_FILTER: Final = "NULL::bytea AS matching"
_MATCHING: Final = """(SELECT string_agg(uuid_send(b.id), '') FROM memory_blocks AS b
        WHERE b.project_id = $1 AND b.user_id = $2 AND {}) AS matching"""
_FIRST: Final = (UUID(int=0), -2)  # before any row
# Columns of the rows `p`, each in one value: as rows they would cost more to decode than to use.
# Sessions, speakers and vectors are what the scan makes of them.
_PACKED: Final = """string_agg(uuid_send(p.block_id), '') AS block_ids,
    string_agg(int4send(p.ordinal), '') AS ordinals,
    string_agg(int8send(coalesce(hashtextextended(p.session_id, 0), 0)), '') AS sessions,
    string_agg(timestamptz_send(p.occurred_at), '') AS instants,
    string_agg(int8send(coalesce(p.speaker_key, 0)), '') AS speakers,
    string_agg(timestamptz_send(coalesce(p.expires_at, 'infinity')), '') AS expiries,
    string_agg(timestamptz_send(coalesce((
        SELECT coalesce(t.occurred_at, t.created_at, b.superseded_at) FROM memory_blocks AS b
        LEFT JOIN memory_blocks AS t
          ON t.project_id = $1 AND t.user_id = $2 AND t.id = b.superseded_by
        WHERE b.project_id = $1 AND b.user_id = $2 AND b.id = p.block_id
          AND b.superseded_at IS NOT NULL), 'infinity')), '') AS superseded_from,
    string_agg(CASE WHEN p.embedding_model = $3 AND p.embedding IS NOT NULL
                    THEN '\\x01'::bytea ELSE '\\x00' END, '') AS has_vector,
    string_agg(halfvec_send(p.embedding), '') FILTER (WHERE p.embedding_model = $3) AS vectors,
    string_agg(int4send(octet_length(p.lexemes)), '') AS term_sizes,
    string_agg(p.lexemes, '') AS terms"""
# As JSON, which has no line break.
_NAMESPACES: Final = """,
    string_agg(coalesce((SELECT to_jsonb(b.namespace)::text FROM memory_blocks AS b
        WHERE b.project_id = $1 AND b.user_id = $2 AND b.id = p.block_id), 'null'), E'\\n')
        AS namespaces"""
_KIND: Final[Mapping[RowKind, str]] = {"blocks": "AND NOT m.item", "items": "AND m.item", "all": ""}


class PostgresSnapshotStore:
    """`ports.search.SnapshotStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._look_up = {kind: _of_kind("look_up", kind) for kind in _KIND}
        self._page = {kind: _of_kind("page_rows", kind) for kind in _KIND}

    async def look_up(
        self,
        scope: Scope,
        model: str,
        names: Sequence[str],
        mark: ScopeMark,
        selection: Selection,
        also: bytes = b"",
    ) -> LookUp:
        statement = self._look_up[selection.kind]
        condition, values = _matching(selection, first=8)
        if condition:
            statement = statement.replace(_NO_FILTER, _MATCHING.format(condition))
        row = await self._database.fetch_row(
            statement,
            scope.project_id,
            scope.user_id,
            model,
            list(names),
            mark.version,
            CHANGED_BLOCKS_MAX,
            [UUID(bytes=one) for one in _ids(also)],
            *values,
        )
        assert row is not None  # one row of aggregates
        current = ScopeMark(row["version"], row["moved_at"])
        changes = None
        if row["is_whole"] and current.moved_at == mark.moved_at:
            changes = ScopeChanges(frozenset(_ids(row["changed_ids"] or b"")), _rows(row))
        return LookUp(
            mark=current,
            read_at=int.from_bytes(row["read_at"], signed=True),
            name_keys=_native("i", row["name_keys"]),
            changes=changes,
            matching=row["matching"] or b"" if condition else None,
        )

    async def page(
        self,
        scope: Scope,
        model: str,
        kind: RowKind,
        *,
        after: tuple[UUID, int] | None,
        limit: int,
    ) -> RowPage:
        row = await self._database.fetch_row(
            self._page[kind], scope.project_id, scope.user_id, model, *(after or _FIRST), limit
        )
        assert row is not None  # an aggregate without GROUP BY
        rows = _rows(row)
        if rows.row_count < limit:
            return RowPage(rows, None)
        return RowPage(rows, (UUID(bytes=rows.block_ids[-_ID_BYTES:]), rows.ordinals[-1]))

    async def erased(self, read_at: Mapping[Scope, int]) -> Sequence[Scope]:
        scopes = list(read_at)
        rows = await self._database.fetch(
            _SQL["erased_scopes"],
            [scope.project_id for scope in scopes],
            [scope.user_id for scope in scopes],
            list(read_at.values()),
        )
        return [scopes[row["n"] - 1] for row in rows]


def _of_kind(name: str, kind: RowKind) -> str:
    packed, logged = _PACKED, "c.block_ids"
    if kind != "blocks":
        packed, logged = _PACKED + _NAMESPACES, "CASE WHEN c.has_items THEN c.block_ids END"
    statement = _SQL[name].replace("/*packed*/", packed).replace("/*logged*/", logged)
    return statement.replace("/*kind*/", _KIND[kind])


def _matching(selection: Selection, *, first: int) -> tuple[str, Sequence[Any]]:
    """The condition of the selection's filters over `memory_blocks AS b`, empty without any, and
    the values of its parameters, the first with this number."""
    conditions, values = list[str](), list[Any]()
    if selection.filters is not None:
        condition = FilterCondition(selection.filters, first=first)
        conditions.append(condition.text)
        values += condition.values
    if (items := selection.item_filter) is not None:
        narrowed = SelectionCondition(
            items.prefix, items.filter or (), is_exact=items.is_exact, first=first + len(values)
        )
        conditions.append(f"b.key IS NOT NULL{narrowed.text}")
        values += narrowed.values
    return " AND ".join(conditions), values


def _ids(joined: bytes) -> Sequence[bytes]:
    return [joined[at : at + _ID_BYTES] for at in range(0, len(joined), _ID_BYTES)]


def _rows(row: asyncpg.Record) -> ScopeRows:
    sizes = np.frombuffer(row["term_sizes"] or b"", dtype=">i4")
    counts, indices, weights = _terms(row["terms"] or b"", sizes)
    has_vector = row["has_vector"] or b""
    return ScopeRows(
        block_ids=row["block_ids"] or b"",
        ordinals=_native("i", row["ordinals"]),
        sessions=_native("q", row["sessions"]),
        instants=_native("q", row["instants"]),
        speakers=_native("q", row["speakers"]),
        expiries=_native("q", row["expiries"]),
        superseded_from=_native("q", row["superseded_from"]),
        has_vector=has_vector,
        vectors=_vectors(row["vectors"] or b"", has_vector.count(1)),
        term_counts=counts,
        term_indices=indices,
        term_weights=weights,
        namespaces=namespaces.split("\n") if (namespaces := row.get("namespaces")) else (),
    )


def _vectors(data: bytes, count: int) -> bytes:
    """Each is int16 dimension, int16 unused, then the values as big-endian float16."""
    if count == 0:
        return b""
    return np.frombuffer(data, dtype=">f2").reshape(count, -1)[:, 2:].astype(np.float16).tobytes()


def _terms(
    data: bytes, sizes: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> tuple[array[int], array[int], array[float]]:
    """Each row's terms are int32 dimension, count, unused, then int32 indices and float32 weights.

    Indices count from 0 there and from 1 here.
    """
    words = np.frombuffer(data, dtype=">i4")
    starts = np.cumsum(sizes // 4) - sizes // 4
    counts = words[starts + 1].astype(np.int32) if len(sizes) else np.zeros(0, dtype=np.int32)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    at = np.repeat(starts + 3, counts) + within
    indices = words[at].astype(np.int32) + np.int32(1)
    weights = words[at + np.repeat(counts, counts)].view(">f4").astype(np.float32)
    return (
        array("i", counts.tobytes()),
        array("i", indices.tobytes()),
        array("f", weights.tobytes()),
    )


def _native(typecode: str, data: bytes | None) -> array:  # type: ignore[type-arg]
    values = array(typecode, data or b"")
    if sys.byteorder == "little":
        values.byteswap()
    return values
