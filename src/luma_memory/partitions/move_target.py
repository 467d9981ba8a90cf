"""The place that a partition is moved to: its schema, and how far the copy is.

The table `moving_progress` in the new schema says whose copy it is, and up to which key each table
is copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

import asyncpg

from luma_memory.domain.errors import Conflict, SetupError, StoreUnavailable
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.former_place import forget_place
from luma_memory.postgres.migrator import migrate
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.postgres.table_copies import LONG_SECONDS, Amount, Table, copy_chunk, enter
from luma_memory.store.partitions import create_extension, prepare
from luma_memory.store.secrets import shared_secrets

_SQL = SqlFile(__name__)
_MOVES = SqlFile("luma_memory.partitions.moving")
# Tables that stay empty or have rows of their own at the new place, each with the reason.
NOT_COPIED: Final[Mapping[str, str]] = {
    "memory_migrations": "the new schema has its own history, which is compared",
    "memory_partitions": "the directory is in the home partition, which is not moved",
    "memory_partition_moves": "as the directory",
    "memory_partition_users": "no partition is moved while users are",
    "memory_changes": "not durable, kept for 15 minutes: without it, readers load a scope again",
}
# The mark's own row in the progress.
_MARK: Final = ""


class Target:
    """A connection to the new place. dsn: None if it is in the home partition's database."""

    def __init__(
        self, home: Database, database: Database, connection: asyncpg.Connection, dsn: str | None
    ) -> None:
        assert database.schema is not None
        self._home = home
        self._database = database
        self.connection = connection
        self.dsn = dsn
        self.schema: str = database.schema
        self._quoted = quoted_name(self.schema)
        self._progress = f"{self._quoted}.moving_progress"

    async def check_free(self) -> None:
        """Raises Conflict if the schema has anything in it but what an earlier move left there."""
        await forget_place(self.connection, self.schema)
        if await self.connection.fetchval(_MOVES["has_objects"], self._quoted):
            raise Conflict(
                f"The schema {self.schema} of the target is not empty: choose another --schema, or"
                " remove it",
                code="schema_exists",
            )

    async def prepare(self, move_id: UUID, number: int, count: int) -> None:
        """Create the schema with all tables, unless this move did before. Raises Conflict."""
        if not await self._is_of(move_id):
            await self.check_free()
            async with self.connection.transaction():
                await self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._quoted}")
                await self.connection.execute(
                    f"CREATE TABLE {self._progress} (table_name text PRIMARY KEY, move_id uuid,"
                    " last_key text[], is_done boolean NOT NULL DEFAULT false,"
                    " rows bigint NOT NULL DEFAULT 0, bytes bigint NOT NULL DEFAULT 0)"
                )
                await self.connection.execute(
                    f"INSERT INTO {self._progress} (table_name, move_id) VALUES ($1, $2)",  # noqa: S608 - quoted names
                    _MARK,
                    move_id,
                )
        with _about_target():
            await create_extension(self._database)
            await migrate(self._database)
            await enter(self.connection, self.schema)
            secrets = await shared_secrets(self._home)
            await prepare(self._database, number, count, secrets["receipts"])

    async def _is_of(self, move_id: UUID) -> bool:
        if not await self.connection.fetchval("SELECT to_regclass($1) IS NOT NULL", self._progress):
            return False
        found = await self.connection.fetchval(
            f"SELECT move_id FROM {self._progress} WHERE table_name = $1",  # noqa: S608
            _MARK,
        )
        return bool(found == move_id)

    async def check_version(self, source: asyncpg.Connection, schema: str) -> None:
        """Raises Conflict if the two schemas have different migrations."""
        here, there = [
            await connection.fetchval(_SQL["versions"].replace("/*schema*/", quoted_name(name)))
            for connection, name in ((source, schema), (self.connection, self.schema))
        ]
        if here != there:
            raise Conflict(
                "The partition and its copy have different migrations: run the command with the"
                " version of luma-memory that migrated the partition",
                code="versions_differ",
            )

    async def copied_before(self, table: Table) -> Amount:
        """By an earlier run of the command. Empties a table that was not begun."""
        row = await self._row(table)
        if row is not None:
            return Amount(row["rows"], row["bytes"])
        async with self.connection.transaction():
            await self.connection.execute(f"DELETE FROM {table.in_schema(self.schema)}")  # noqa: S608
            await self.connection.execute(
                f"INSERT INTO {self._progress} (table_name) VALUES ($1)",  # noqa: S608
                table.name,
            )
        return Amount()

    async def copy(self, source: asyncpg.Connection, schema: str, table: Table) -> Amount | None:
        """Copy the next chunk of a table; None once it is complete."""
        row = await self._row(table)
        assert row is not None
        if row["is_done"]:
            return None
        async with self.connection.transaction():
            chunk = await copy_chunk(
                source, schema, self.connection, self.schema, table, row["last_key"]
            )
            if chunk is None:
                await self.connection.execute(
                    f"UPDATE {self._progress} SET is_done = true WHERE table_name = $1",  # noqa: S608
                    table.name,
                )
                return None
            await self.connection.execute(
                f"UPDATE {self._progress} SET last_key = $2, rows = rows + $3, bytes = bytes + $4"  # noqa: S608
                " WHERE table_name = $1",
                table.name,
                list(chunk.last_key),
                chunk.amount.rows,
                chunk.amount.bytes,
            )
        return chunk.amount

    async def _row(self, table: Table) -> asyncpg.Record | None:
        return await self.connection.fetchrow(
            f"SELECT last_key, is_done, rows, bytes FROM {self._progress} WHERE table_name = $1",  # noqa: S608
            table.name,
        )

    async def analyze(self, tables: Sequence[Table]) -> None:
        """Statements of the rounds, and of the service afterwards, are planned with statistics."""
        for table in tables:
            await self.connection.execute(
                f"ANALYZE {table.in_schema(self.schema)}", timeout=LONG_SECONDS
            )

    async def unmark(self) -> None:
        """The copy has become the partition."""
        await self.connection.execute(f"DROP TABLE IF EXISTS {self._progress}")

    async def drop(self, move_id: UUID) -> None:
        """Remove the schema if this move made it."""
        if await self._is_of(move_id):
            await self.connection.execute(f"DROP SCHEMA {self._quoted} CASCADE", timeout=600)


@contextlib.asynccontextmanager
async def open_target(
    home: Database, source: asyncpg.Connection, address: str | None, schema: str
) -> AsyncIterator[Target]:
    """address: None means the home partition's. There the caller holds the lock of moves.

    Raises Conflict if the schema is the source's own, SetupError and StoreUnavailable about the
    target.
    """
    database = home.beside(schema=schema, dsn=address)
    try:
        with _about_target():
            await database.open()  # refuses a transaction pooler
            connection = await database.dedicated()
        try:
            await enter(connection, schema)
            if await _is_same_database(source, connection) and await source.fetchval(
                "SELECT current_schema() = $1", schema
            ):
                raise Conflict(
                    "The partition is at this place already: choose another address or --schema",
                    code="same_place",
                )
            at_home = not await connection.fetchval(_MOVES["lock_moves"])
            if not at_home:
                await connection.fetchval(_MOVES["unlock_moves"])
            yield Target(home, database, connection, None if at_home else address)
        finally:
            connection.terminate()
    finally:
        await database.close()


async def _is_same_database(source: asyncpg.Connection, target: asyncpg.Connection) -> bool:
    """Session locks are of one database, whatever the two addresses look like."""
    await source.fetchval(_MOVES["mark_database"])
    try:
        if await target.fetchval(_MOVES["mark_database"]):
            await target.fetchval(_MOVES["unmark_database"])
            return False
        return True
    finally:
        await source.fetchval(_MOVES["unmark_database"])


@contextlib.contextmanager
def _about_target() -> Iterator[None]:
    try:
        yield
    except (SetupError, StoreUnavailable) as error:
        message = str(error).replace("DATABASE_URL", "--to")
        raise type(error)(f"The target: {message}", code=error.code) from error
