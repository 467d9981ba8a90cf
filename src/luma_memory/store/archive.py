"""Export and import of all rows of a user, for whatever tables and columns exist."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg

from luma_memory.domain.errors import Invalid, InvariantError
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)

# Rows per page: each up to about 400 KB, most of a few hundred bytes.
PAGE_ROWS: Final = 50
_PREFIX: Final = "memory_"
# Work in progress, limits and credentials: not part of the memories.
_NOT_KEPT: Final[Collection[str]] = (
    *("jobs", "rate_limits", "idempotency", "api_keys"),
    # Versions are meaningless elsewhere; imported entries would claim changes that never happened.
    "changes",
    # Of the one installation: what happened there, who is notified of it, and who is moved there.
    *("events", "webhooks", "webhook_deliveries", "partition_users"),
)
# Imported before the tables that refer to them.
_FIRST: Final[Sequence[str]] = ("users", "blocks")


class PostgresArchive:
    """`ports.archive.Archive` on PostgreSQL. A kind of rows is a table's name without its prefix.

    Pages are read one after the other, each in a statement of its own: one snapshot held as long
    as a slow reader takes would keep vacuum from cleaning up the whole database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rows(self, scope: Scope) -> AsyncIterator[tuple[str, Sequence[str]]]:
        for kind, keys in (await self.kinds()).items():
            last: Mapping[str, Any] | None = None
            while True:
                rows = await self._page(scope, kind, keys, last)
                if rows:
                    yield kind, [row["data"] for row in rows]
                if len(rows) < PAGE_ROWS or not keys:
                    break
                last = rows[-1]["key"]

    async def store(self, scope: Scope, kind: str, rows: Sequence[Mapping[str, Any]]) -> int:
        if kind not in await self.kinds():
            raise Invalid(f"There are no rows of a kind {kind[:50]!r}", code="import_kind_unknown")
        try:
            row = await self._database.fetch_row(
                _SQL["import_rows"],
                scope.project_id,
                scope.user_id,
                _PREFIX + kind,
                [dict(row) for row in rows],
            )
        except InvariantError as error:
            if isinstance(error.__cause__, _ROWS_FAULT):
                raise Invalid(
                    f"These rows of {kind} cannot be stored: a value has an invalid form",
                    code="import_row_invalid",
                ) from None
            raise
        return int(row["stored"]) if row is not None else 0

    async def dimension(self, scope: Scope, model: str) -> int | None:
        statement = _SQL["vector_dimension"]
        row = await self._database.fetch_row(statement, scope.project_id, scope.user_id, model)
        return None if row is None else int(row["dimension"])

    async def kinds(self) -> Mapping[str, Sequence[str]]:
        """Kinds and the key columns of their rows, in the order in which they are stored."""
        rows = await self._database.fetch(_SQL["archive_tables"])
        found = {row["name"].removeprefix(_PREFIX): row["keys"] for row in rows}
        names = [*_FIRST, *(name for name in found if name not in _FIRST)]
        return {name: found[name] for name in names if name not in _NOT_KEPT}

    async def _page(
        self, scope: Scope, kind: str, keys: Sequence[str], last: Mapping[str, Any] | None
    ) -> Sequence[asyncpg.Record]:
        # Names come from the catalogue and are quoted there.
        columns = [f't."{key}"' for key in keys]
        places = [f'(jsonb_populate_record(NULL::"{_PREFIX}{kind}", $4))."{key}"' for key in keys]
        after = f"AND ({', '.join(columns)}) > ({', '.join(places)})" if last is not None else ""
        statement = (
            _SQL["archive_page"]
            .replace("/*table*/", f'"{_PREFIX}{kind}"')
            .replace("/*key*/", ", ".join(f"'{key}', t.\"{key}\"" for key in keys))
            .replace("/*after*/", after)
            .replace("/*order*/", f"ORDER BY {', '.join(columns)}" if columns else "")
        )
        values = (scope.project_id, scope.user_id, PAGE_ROWS)
        return await self._database.fetch(statement, *values, *([last] if last else []))


_ROWS_FAULT: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
