"""The connection pool."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any, Literal, TypeAlias

import asyncpg

from luma_memory.domain.errors import SetupError, StoreUnavailable
from luma_memory.postgres.address import driver_address
from luma_memory.postgres.errors import NO_RESPONSE, connecting, translated
from luma_memory.postgres.liveness import Liveness
from luma_memory.postgres.pooler import PoolerChoice, names_hosted_pooler, sessions_are_shared
from luma_memory.postgres.vectors import VectorSchema, register_vector_types, vector_schema

# A pooled connection is a proxy object of the driver.
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

_RELEASE_SECONDS = 0.5
# Prepared statements per connection; there are fewer different ones.
_STATEMENTS_KEPT = 100
# Each partition has statements of its own in a connection, a few tens of kilobytes each.
_PARTITIONS_KEPT = 8
_HAS_CITUS = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS found"
# Arrays of these are parameters. The driver reads each one's type at its first use.
_ARRAY_ELEMENTS = (
    *("text", "boolean", "integer", "bigint", "real", "double precision", "bytea", "uuid"),
    *("jsonb", "timestamptz", "interval"),
)


class Database:
    """A bounded pool of connections to one PostgreSQL.

    command_timeout bounds every statement, acquire_timeout the wait for a free connection, so a
    hanging server causes StoreUnavailable instead of a hanging caller. pooler: whether there is a
    transaction pooler in between; behind one no state is left in a session, at the cost of
    a second round trip for each statement (nothing is prepared in advance).
    schema: of a partition, instead of the one that the address and the role choose.
    notices_hanging: whether statements fail within two seconds when the server stops responding,
    however long each may take otherwise; costs one more connection.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 8,
        command_timeout_seconds: float = 30.0,
        acquire_timeout_seconds: float = 5.0,
        application_name: str = "luma-memory",
        pooler: PoolerChoice = "auto",
        notices_hanging: bool = False,
        schema: str | None = None,
    ) -> None:
        self._dsn = dsn
        self.schema = schema
        self._pooler = pooler
        self._address = driver_address(dsn)
        self._connect_seconds = self._address.connect_seconds or acquire_timeout_seconds
        # The session's search_path if the role's own lacks pgvector's schema.
        self._search_path: str | None = None
        self._liveness = Liveness(self._connect) if notices_hanging else None
        self._pool_size = pool_size
        self._command_timeout = command_timeout_seconds
        self._acquire_timeout = acquire_timeout_seconds
        self._application_name = application_name
        # None: not known yet.
        self._sessions_shared = None if pooler == "auto" else pooler == "transaction"
        self._coordinates: bool | None = None  # a Citus cluster; None: not known yet
        self._pool: asyncpg.Pool | None = None
        self._taken = 0  # connections, including requested ones
        self._away_at = float("-inf")  # time.monotonic() of the last timeout
        self._opening = asyncio.Lock()
        self._in_transaction: dict[asyncio.Task[Any] | None, Connection] = {}
        # The schema that each session's names lead to, by its process id; see `connection_in`.
        self._entered: dict[int, str] = {}
        self._partition_paths: dict[str, str] = {}
        self._statements_kept = _STATEMENTS_KEPT

    async def open(self) -> None:
        """Connect at least once, so that a wrong address is reported at the start. Idempotent."""
        async with self._opening:
            if self._pool is not None:
                return
            with translated(), connecting():
                shared = await self._find_out()
                self._search_path = await self._find_search_path(shared=shared)
                self._pool = await self._create_pool(shared=shared)
                if self._liveness is not None:
                    await self._liveness.open()

    @property
    def pool_size(self) -> int:
        return self._pool_size

    async def shares_sessions(self) -> bool:
        """Whether statements of one connection may run in different sessions: no LISTEN, no SET,
        no session lock. Connects if this is not known yet; raises as `connection`."""
        with translated(), connecting():
            return await self._find_out()

    async def coordinates_nodes(self) -> bool:
        """Whether this is the coordinator of a Citus cluster: each partition may be on a node of
        its own, where functions run. Raises as `connection`."""
        if self._coordinates is None:
            row = await self.fetch_row(_HAS_CITUS)
            self._coordinates = row is not None and bool(row["found"])
        return self._coordinates

    async def _find_out(self) -> bool:
        if self._sessions_shared is None:
            self._sessions_shared = names_hosted_pooler(self._dsn) or await sessions_are_shared(
                self._connect
            )
        return self._sessions_shared

    async def _find_search_path(self, *, shared: bool) -> str | None:
        """The search_path with which a session finds pgvector, if the role's own is not enough.

        Raises SetupError if it cannot be set for a connection.
        """
        if self.schema is not None:
            return await self._find_schema_path(self.schema, shared=shared)
        connection = await self._connect()
        try:
            schema = await vector_schema(connection)
        finally:
            connection.terminate()
        if schema is None or schema.is_on_path:
            return None
        if not schema.has_tables_schema:
            raise SetupError(
                "No schema of this user's search_path exists: create it, or correct the"
                " search_path",
                code="database_setup",
            )
        if not schema.is_usable:
            raise SetupError(
                f"pgvector is in the schema {schema.quoted}, which the user of DATABASE_URL may not"
                f" use: run GRANT USAGE ON SCHEMA {schema.quoted} TO {schema.role}",
                code="database_setup",
            )
        if shared:
            raise _search_path_refused(schema)
        try:
            connection = await self._connect(search_path=schema.search_path)
        except asyncpg.ProtocolViolationError as error:  # a pooler in session mode
            raise _search_path_refused(schema) from error
        connection.terminate()
        return schema.search_path

    async def _find_schema_path(self, name: str, *, shared: bool) -> str:
        """The partition's schema, then pgvector's: no other schema's tables are found first."""
        if shared:
            raise _schema_refused(name)
        try:
            connection = await self._connect(search_path=quoted_name(name))
        except asyncpg.ProtocolViolationError as error:  # a pooler in session mode
            raise _schema_refused(name) from error
        try:
            vectors = await vector_schema(connection)
        finally:
            connection.terminate()
        return quoted_name(name) if vectors is None else f"{quoted_name(name)}, {vectors.quoted}"

    async def _create_pool(self, *, shared: bool) -> asyncpg.Pool:
        settings = {"application_name": self._application_name}
        if self._search_path is not None:
            settings["search_path"] = self._search_path
        pool: asyncpg.Pool = await asyncpg.create_pool(
            self._address.dsn,
            min_size=1,
            max_size=self._pool_size,
            command_timeout=self._command_timeout,
            timeout=self._connect_seconds,
            init=_prepare_shared if shared else self._prepare_own,
            reset=_keep_session,
            # Only settings that are needed: poolers reject most of them.
            server_settings=settings,
            statement_cache_size=0 if shared else self._statements_kept,
            **self._address.options,
        )
        return pool

    async def _prepare_own(self, connection: asyncpg.Connection) -> None:
        self._entered.pop(connection.get_server_pid(), None)  # of an ended session
        await _prepare_own(connection)

    def hold_partitions(self, count: int) -> None:
        """Keep statements for so many partitions in each connection; call it before `open`."""
        self._statements_kept = _STATEMENTS_KEPT * min(count, _PARTITIONS_KEPT)
        # Processes that do not know of partitions are recognized by their names (`adopting`).
        self._application_name = f"{self._application_name} ({count} partitions)"

    @asynccontextmanager
    async def connection_in(self, schema: str) -> AsyncIterator[Connection]:
        """`connection`, with names that lead to this schema first, then to pgvector's.

        One pool serves all partitions of a server: with a pool for each, their number would
        multiply the connections. Raises SetupError behind a transaction pooler.
        """
        async with self.connection() as connection:
            pid = connection.get_server_pid()
            if self._entered.get(pid) != schema:
                path = self._partition_paths.get(schema) or await self._partition_path(schema)
                self._entered.pop(pid, None)  # unknown if this is interrupted
                with translated():
                    await connection.execute(f"SET search_path = {path}")
                self._entered[pid] = schema
            yield connection

    async def _partition_path(self, schema: str) -> str:
        with translated(), connecting():
            path = await self._find_schema_path(schema, shared=await self._find_out())
        self._partition_paths[schema] = path
        return path

    async def dedicated_in(self, schema: str) -> asyncpg.Connection:
        """`dedicated`, for a partition: names lead to its schema."""
        with translated(), connecting():
            # The migration then checks for its tables in this schema alone.
            partition = {"luma_memory.partition": schema}
            return await self._connect(search_path=quoted_name(schema), **partition)

    def elsewhere(self, dsn: str) -> Database:
        """Connections with the same limits to another address. The caller closes them."""
        other = Database(
            dsn,
            pool_size=self._pool_size,
            command_timeout_seconds=self._command_timeout,
            acquire_timeout_seconds=self._acquire_timeout,
            application_name=self._application_name,
            pooler=self._pooler,
            notices_hanging=self._liveness is not None,
        )
        other._statements_kept = self._statements_kept
        return other

    def beside(self, *, schema: str, dsn: str | None) -> Database:
        """One connection to a partition, at the same address or another. The caller closes it."""
        return Database(
            dsn or self._dsn,
            pool_size=1,
            command_timeout_seconds=self._command_timeout,
            acquire_timeout_seconds=self._acquire_timeout,
            application_name=self._application_name,
            pooler=self._pooler,
            schema=schema,
        )

    async def close(self) -> None:
        """Close all connections; one that does not close in time is aborted. Idempotent."""
        pool, self._pool = self._pool, None
        if self._liveness is not None:
            await self._liveness.close()
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), timeout=5.0)
        except (TimeoutError, asyncpg.InterfaceError):
            pool.terminate()

    def was_away_since(self, moment: float) -> bool:
        """Whether a statement of this process got no response after that `time.monotonic()`."""
        return self._away_at >= moment

    async def renew(self) -> None:
        """Reopen every connection at its next use, as the schema has changed."""
        if self._pool is not None:
            await self._pool.expire_connections()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for one short use. Never hold it during a provider or cache call.

        Raises StoreUnavailable, SetupError, or InvariantError for what should not happen.
        """
        if (own := self._in_transaction.get(asyncio.current_task())) is not None:
            with translated():
                yield own
            return
        try:
            if self._pool is None:
                await self.open()
            pool = self._pool
            assert pool is not None
            # A free one is available at once (opening it has its own timeout): waiting for it
            # with a deadline would cost a task.
            timeout = None if self._taken < self._pool_size else self._acquire_timeout
            watched = self._liveness.watched() if self._liveness is not None else None
            with translated(), watched or nullcontext():
                self._taken += 1
                try:
                    connection = await pool.acquire(timeout=timeout)
                except BaseException:
                    self._taken -= 1
                    raise
                if watched is not None:
                    watched.connection = connection
                try:
                    with _closed_on_failure(connection) if self._sessions_shared else nullcontext():
                        yield connection
                finally:
                    # By default the driver waits here until a statement that timed out is
                    # cancelled, for as long as it would wait for a connection: a hanging server
                    # would delay its callers by both.
                    try:
                        await pool.release(connection, timeout=_RELEASE_SECONDS)
                    finally:
                        self._taken -= 1
        except StoreUnavailable as error:
            if isinstance(error.__cause__, NO_RESPONSE):
                self._away_at = time.monotonic()
            raise

    @asynccontextmanager
    async def transaction(self, *, reads_one_moment: bool = False) -> AsyncIterator[None]:
        """All statements of this task inside it are one transaction.

        Statements of tasks started inside are not. Never hold it during a provider or cache call.
        reads_one_moment: they see the same state, and write nothing. Raises as `connection`.
        """
        task = asyncio.current_task()
        isolation: Literal["repeatable_read"] | None = (
            "repeatable_read" if reads_one_moment else None
        )
        async with (
            self.connection() as connection,
            connection.transaction(isolation=isolation, readonly=reads_one_moment),
        ):
            self._in_transaction[task] = connection
            try:
                yield
            finally:
                del self._in_transaction[task]

    async def fetch(self, statement: str, *values: Any) -> Sequence[asyncpg.Record]:
        """All rows of one statement in its own transaction."""
        async with self.connection() as connection:
            rows: Sequence[asyncpg.Record] = await connection.fetch(statement, *values)
            return rows

    async def fetch_row(self, statement: str, *values: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *values)

    async def execute(self, statement: str, *values: Any) -> None:
        """Run a statement and ignore its rows."""
        async with self.connection() as connection:
            await connection.execute(statement, *values)

    async def dedicated(self) -> asyncpg.Connection:
        """A connection outside the pool, for LISTEN and session locks. The caller closes it.

        Behind a transaction pooler neither works; see `shares_sessions`.
        """
        with translated(), connecting():
            if self.schema is None:
                return await self._connect()
        return await self.dedicated_in(self.schema)

    async def _connect(self, **settings: str) -> asyncpg.Connection:
        connection: asyncpg.Connection = await asyncpg.connect(
            self._address.dsn,
            timeout=self._connect_seconds,
            command_timeout=self._command_timeout,
            server_settings={"application_name": self._application_name, **settings},
            **self._address.options,
            statement_cache_size=0,  # its few statements run once each, maybe through a pooler
        )
        return connection


def quoted_name(name: str) -> str:
    """As SQL needs the name of a schema."""
    return '"' + name.replace('"', '""') + '"'


def _schema_refused(name: str) -> SetupError:
    return SetupError(
        f"The pooler of the address sets no search_path for a connection, which the partition in"
        f" the schema {name} needs: use the database's direct address",
        code="database_setup",
    )


def _search_path_refused(schema: VectorSchema) -> SetupError:
    return SetupError(
        f"pgvector is in the schema {schema.quoted}, which is not on the search_path of this user,"
        " and the pooler of DATABASE_URL sets none for a connection: run"
        f" ALTER ROLE {schema.role} SET search_path = {schema.search_path}; and reconnect the"
        " pooler, or use the database's direct address",
        code="database_setup",
    )


async def _keep_session(_connection: asyncpg.Connection) -> None:
    """Called when a connection goes back to the pool, after an open transaction was ended.

    No code changes a session, so there is nothing to reset; the driver's own reset is a round
    trip of four statements after each use, and callers wait for it.
    """


@contextmanager
def _closed_on_failure(connection: Connection) -> Iterator[None]:
    """Abort a connection that was left in the middle of a statement.

    The driver sends a statement in two parts. If the second part never follows (a value did not fit
    its type, the caller was cancelled in between), the pooler keeps a server connection for it.
    """
    try:
        yield
    except BaseException as error:
        is_from_server = isinstance(error, asyncpg.PostgresError)
        # The driver uses a class of server errors for values that it could not send.
        if not is_from_server or type(error) is asyncpg.DataError:
            connection.terminate()
        raise


async def _prepare_own(connection: asyncpg.Connection) -> None:
    # Compiling a plan takes longer than any statement of the service. Citus replaces pg_class in
    # each query by one without its shards, which makes the driver's query for a type take seconds;
    # elsewhere the second setting is unknown and has no effect.
    await connection.execute("SET jit = off; SET citus.override_table_visibility = off")
    await _register_types(connection)


async def _prepare_shared(connection: asyncpg.Connection) -> None:
    """Load the type information, which stays in the client, and undo the settings used for it.

    The driver turns jit off and on again to read the catalog, in whatever session it gets.
    Statements then use the server's jit setting; a scan reaches its threshold at about 80,000
    passages of one user.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        await _register_types(connection)
    finally:
        await transaction.rollback()


async def _register_types(connection: asyncpg.Connection) -> None:
    vectors = await register_vector_types(connection)
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )
    arrays = ", ".join(f"NULL::{element}[]" for element in (*_ARRAY_ELEMENTS, *vectors))
    await connection.fetchrow(f"SELECT {arrays}")  # last: a new codec resets those of arrays


def _encode_jsonb(value: object) -> bytes:
    # Version byte of jsonb's binary form, then the text.
    return b"\x01" + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _decode_jsonb(data: bytes) -> Any:
    return json.loads(data[1:])
