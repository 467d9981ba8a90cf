"""A partition as a database of its own, on connections that the partitions of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from luma_memory.postgres.database import Connection, Database
from luma_memory.postgres.errors import translated

# Statements with conditions have many texts.
_TEXTS_KEPT: Final = 500


class PartitionDatabase(Database):
    """What repositories use as their database, for one partition.

    Closing and opening concern the server, whose connections this one borrows. `move` changes where
    the partition is, for every statement from then on.
    """

    def __init__(self, server: Database, schema: str) -> None:
        self._server = server
        self.schema: str = schema
        self._in_transaction: dict[asyncio.Task[Any] | None, Connection] = {}
        self._texts: dict[str, str] = {}

    @property
    def server(self) -> Database:
        """The connections that it shares."""
        return self._server

    def move(self, server: Database, schema: str) -> None:
        self._server, self.schema = server, schema
        self._texts.clear()

    async def open(self) -> None:
        await self._server.open()

    async def close(self) -> None:
        """The server is closed by its owner."""

    async def renew(self) -> None:
        await self._server.renew()

    async def shares_sessions(self) -> bool:
        return await self._server.shares_sessions()

    async def coordinates_nodes(self) -> bool:
        return await self._server.coordinates_nodes()

    def was_away_since(self, moment: float) -> bool:
        return self._server.was_away_since(moment)

    async def dedicated(self) -> asyncpg.Connection:
        return await self._server.dedicated_in(self.schema)

    def beside(self, *, schema: str, dsn: str | None) -> Database:
        return self._server.beside(schema=schema, dsn=dsn)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        if (own := self._in_transaction.get(asyncio.current_task())) is not None:
            with translated():
                yield own
            return
        async with self._server.connection_in(self.schema) as connection:
            yield connection

    async def fetch(self, statement: str, *values: Any) -> Sequence[asyncpg.Record]:
        return await super().fetch(self._text(statement), *values)

    async def fetch_row(self, statement: str, *values: Any) -> asyncpg.Record | None:
        return await super().fetch_row(self._text(statement), *values)

    async def execute(self, statement: str, *values: Any) -> None:
        await super().execute(self._text(statement), *values)

    def _text(self, statement: str) -> str:
        """The statement under a text of its own.

        PostgreSQL plans a prepared statement again when the search path is not the one of its last
        use; so the partitions do not share one.
        """
        text = self._texts.get(statement)
        if text is None:
            if len(self._texts) >= _TEXTS_KEPT:
                self._texts.clear()
            text = self._texts[statement] = f"{statement}\n/* {self.schema} */"
        return text
