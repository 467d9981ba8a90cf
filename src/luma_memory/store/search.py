"""The search columns in PostgreSQL."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from functools import cache

import asyncpg
import numpy as np

from luma_memory.domain.enrichment import Vector
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ScopeScan
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import load_sql
from luma_memory.postgres.vectors import encode_halfvec


class PostgresSearchStore:
    """domain.ports.SearchStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def scan(
        self,
        scope: Scope,
        *,
        vector: Vector | None,
        embedding_model: str | None,
        terms: Sequence[bytes],
        all_terms: bytes,
    ) -> ScopeScan:
        row = await self._database.fetch_row(
            _scan_statement(len(terms)),
            scope.project_id,
            scope.user_id,
            None if vector is None else encode_halfvec(vector),
            embedding_model if vector is not None else None,
            all_terms,
            # Without a term no column uses the parameter, and PostgreSQL would not know it.
            *([list(terms)] if terms else []),
        )
        assert row is not None  # an aggregate without GROUP BY
        return _scope_scan(row, len(terms))


@cache
def _scan_statement(term_count: int) -> str:
    columns = "".join(
        f",\n       string_agg(float4send((-(p.lexemes <#> ($6::sparsevec[])[{n}]))::real), '')"
        f" FILTER (WHERE p.matched > 0) AS term_{n}"
        for n in range(1, term_count + 1)
    )
    return load_sql(__package__, "scan_scope").replace("/*term_columns*/", columns)


def _scope_scan(row: asyncpg.Record, term_count: int) -> ScopeScan:
    matched = np.frombuffer(row["matched"] or b"", dtype=">f4") > 0
    return ScopeScan(
        block_ids=row["block_ids"] or b"",
        ordinals=_native("i", row["ordinals"]),
        dense=_native("f", row["dense"]),
        term_weights=[_spread(row[f"term_{n}"], matched) for n in range(1, term_count + 1)],
    )


def _native(typecode: str, data: bytes | None) -> array:  # type: ignore[type-arg]
    values = array(typecode, data or b"")
    if sys.byteorder == "little":
        values.byteswap()
    return values


def _spread(
    weights: bytes | None, matched: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> array[float]:
    """Weights of the matched rows at their places in the whole column."""
    column = np.zeros(len(matched), dtype=np.float32)
    column[matched] = np.frombuffer(weights or b"", dtype=">f4")
    return array("f", column.tobytes())
