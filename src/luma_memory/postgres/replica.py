"""A streaming replica of the database, for reads that need not burden the primary.

Nothing here decides whether the replica is up to date: that is part of each read
(`store.replicated`). This is about whether it is used at all. A replica that does not respond, or
is none of this database, costs a few reads a fraction of a second; then none is sent there until a
background check finds it in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, TypeVar

import asyncpg

from luma_memory.concurrency.deadline import within
from luma_memory.domain.errors import LumaMemoryError, SetupError, StoreUnavailable
from luma_memory.postgres.database import Database
from luma_memory.postgres.partition import PartitionDatabase
from luma_memory.telemetry.events import Emit, ReplicaChanged

ResultT = TypeVar("ResultT")
# What the replica's state makes of a read. Only "used" is one.
Admission: TypeAlias = Literal["used", "behind", "ahead", "clock", "renewed", "promoted"]
# How long a read waits until the replica has stated its version: a round trip or two. Then the
# primary is read, and the replica is left alone.
ADMISSION_SECONDS: Final = 0.5
# That time passes in steps: an event loop that is late by all of it has still read its sockets that
# often.
_STEPS: Final = 5
# Time limit of a check, which may have to connect.
CHECK_SECONDS: Final = 2.0
# Between checks of a replica that is left alone; doubles up to the second value while it fails
# again soon after it was found in order.
_RETRY_SECONDS: Final = 0.5
_RETRY_SECONDS_MAX: Final = 4.0
_SOON_SECONDS: Final = 60.0
NO_STANDBY: Final = "MEMORY_DATABASE_READ_URL leads to a primary, not to a standby: it is not read"
NOT_A_REPLICA: Final = "not_a_replica"  # the code of NotAReplicaError
_READ_TABLES: Final = (
    *("memory_users", "memory_blocks", "memory_passages", "memory_relations"),
    "memory_scope_models",
)
_SERVER: Final = """
SELECT (SELECT system_identifier FROM pg_control_system()) AS system,
       current_database() AS database, current_schema() AS schema, current_user AS role,
       pg_is_in_recovery() AS is_standby,
       count(*) FILTER (WHERE has_table_privilege(c.oid, 'SELECT')) AS readable,
       coalesce(bool_or(row_security_active(c.oid)), false) AS hides_rows,
       extract(epoch FROM now() - pg_last_xact_replay_timestamp())::real AS since_replay
FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relname = ANY ($1)
"""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server states about itself."""

    system: int  # the same on a primary and its standbys, and on no other server
    database: str
    schema: str | None
    role: str
    is_standby: bool
    readable: int  # of the tables that are read here
    hides_rows: bool  # row-level security applies to this role
    since_replay: float | None  # seconds since the last replayed transaction


async def server_facts(database: Database) -> ServerFacts:
    """Raises StoreUnavailable and SetupError."""
    row = await database.fetch_row(_SERVER, list(_READ_TABLES))
    assert row is not None  # an aggregate without GROUP BY
    return ServerFacts(**dict(row))


class NotAReplicaError(SetupError):
    """The address leads to something that will never be a replica of this database."""


def check_replica(replica: ServerFacts, primary: ServerFacts) -> None:
    """Raises NotAReplicaError for another database, SetupError for what an operator has to correct,
    StoreUnavailable for a server that is no standby now."""
    for name, here, there in (
        ("system identifier", primary.system, replica.system),
        ("name", primary.database, replica.database),
        ("schema", primary.schema, replica.schema),
    ):
        if here != there:
            raise NotAReplicaError(
                "MEMORY_DATABASE_READ_URL leads to another database than DATABASE_URL: its"
                f" {name} is {there}, not {here}",
                code=NOT_A_REPLICA,
            )
    if replica.readable < len(_READ_TABLES):
        raise SetupError(
            f"The role {replica.role} of MEMORY_DATABASE_READ_URL may not read all of"
            f" {', '.join(_READ_TABLES)}: grant it SELECT on them",
            code="replica_setup",
        )
    if replica.hides_rows and (replica.role != primary.role or not primary.hides_rows):
        raise SetupError(
            f"Row-level security hides rows from the role {replica.role} of"
            " MEMORY_DATABASE_READ_URL: use the role of DATABASE_URL, or one that bypasses it",
            code="replica_setup",
        )
    if not replica.is_standby:
        raise StoreUnavailable(NO_STANDBY)


class Replica:
    """Connections to the replica, and whether it is used.

    database: the replica. home: the database of DATABASE_URL, or its home partition; partitions at
    other addresses have no replica.
    """

    def __init__(self, database: Database, home: Database, emit: Emit) -> None:
        self.database = database
        self.open_reads = 0  # attempts that have not ended
        self._home = home
        self._emit = emit
        self._facts: ServerFacts | None = None  # of the primary
        self.reason: str | None = "not checked yet"  # why it is not used; None: it is
        self._checking: asyncio.Task[None] | None = None
        self._retry_seconds = _RETRY_SECONDS
        self._found_at = float("-inf")

    @property
    def is_used(self) -> bool:
        return self.reason is None

    @property
    def is_busy(self) -> bool:
        """Whether all connections are in use. A read would wait, as it would for a server that
        does not respond; the primary has connections of its own."""
        return self.open_reads >= self.database.pool_size

    async def start(self) -> None:
        """Check it once; if it is away or behind in its setup, continue without it, and try again.

        Raises NotAReplicaError, and StoreUnavailable if the primary does not respond.
        """
        self._facts = await server_facts(self._home)
        try:
            await self._check()
        except NotAReplicaError:
            raise
        except LumaMemoryError as error:
            self.leave(error)

    def leave(self, error: LumaMemoryError | TimeoutError) -> None:
        """Send no more reads until a check has found it in order."""
        if self._checking is None:
            now = time.monotonic()
            again = now - self._found_at < _SOON_SECONDS
            doubled = min(2 * self._retry_seconds, _RETRY_SECONDS_MAX)
            self._retry_seconds = doubled if again else _RETRY_SECONDS
            self._note(about_replica(error))
            self._checking = asyncio.create_task(self._check_until_found(), name="replica-check")

    def view_of(self, database: Database, made: Database) -> bool:
        """Whether `made`, from `twin_of(database)`, shows the same tables; leads it there."""
        if not isinstance(database, PartitionDatabase):
            return True
        assert isinstance(made, PartitionDatabase)
        assert isinstance(self._home, PartitionDatabase)
        if database.server is not self._home.server:
            return False
        if made.schema != database.schema:
            made.move(self.database, database.schema)
        return True

    def twin_of(self, database: Database) -> Database:
        """The same database, or the same partition, on the replica."""
        if isinstance(database, PartitionDatabase):
            return PartitionDatabase(self.database, database.schema)
        return self.database

    async def close(self) -> None:
        """Idempotent."""
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)
        await self.database.close()

    async def _check(self) -> None:
        assert self._facts is not None
        try:
            found = await within(server_facts(self.twin_of(self._home)), CHECK_SECONDS)
        except TimeoutError:
            raise StoreUnavailable("The replica does not respond in time") from None
        check_replica(found, self._facts)
        self._found_at = time.monotonic()
        self._note(None)

    async def _check_until_found(self) -> None:
        while True:
            await asyncio.sleep(self._retry_seconds)
            try:
                await self._check()
            except LumaMemoryError as error:
                self._note(about_replica(error))
                continue
            self._checking = None
            return

    def _note(self, reason: str | None) -> None:
        if reason != self.reason:
            self.reason = reason
            self._emit(ReplicaChanged(reason))


def about_replica(error: LumaMemoryError | TimeoutError) -> str:
    """What went wrong, with the name of the setting that has the replica's address."""
    if isinstance(error, TimeoutError):
        return "The replica does not respond in time"
    text = str(error)
    if "MEMORY_DATABASE_READ_URL" not in text:
        text = text.replace("DATABASE_URL", "MEMORY_DATABASE_READ_URL")
    return text.replace("PostgreSQL does not respond", "The replica does not respond")


def is_conflict(error: BaseException | None) -> bool:
    """Whether the replica cancelled a statement for what it has to replay.

    Between two messages of a statement it closes the connection instead: then the driver's error
    is about the connection, and has the server's as its cause.
    """
    while error is not None:
        if isinstance(error, asyncpg.SerializationError):
            return True
        error = error.__cause__
    return False


class Attempt(Generic[ResultT]):
    """A read on the replica, in a task of its own.

    The caller gets the result before the transaction has ended, and does not wait for a statement
    that has to be cancelled. work: sets the futures, in this order.
    """

    def __init__(
        self, replica: Replica, work: Callable[[Attempt[ResultT]], Awaitable[None]]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._replica = replica
        self.admission: asyncio.Future[Admission] = loop.create_future()
        self.result: asyncio.Future[ResultT] = loop.create_future()
        self._task = asyncio.create_task(self._run(work), name="replica-read")

    def admit(self, admission: Admission) -> bool:
        """Whether the read continues."""
        if not self.admission.done():  # the caller no longer waits otherwise
            self.admission.set_result(admission)
            return admission == "used"
        return False

    async def admitted(self) -> Admission:
        """Raises TimeoutError and as `work`."""
        with self._cancelled_on_failure():
            for _ in range(_STEPS):
                with suppress(TimeoutError):
                    return await within(asyncio.shield(self.admission), ADMISSION_SECONDS / _STEPS)
            raise TimeoutError

    async def outcome(self) -> ResultT:
        """Raises as `work`."""
        with self._cancelled_on_failure():
            return await self.result

    async def _run(self, work: Callable[[Attempt[ResultT]], Awaitable[None]]) -> None:
        self._replica.open_reads += 1
        try:
            await work(self)
        except Exception as error:
            for future in (self.admission, self.result):
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # retrieved, if the caller no longer waits
        finally:
            self._replica.open_reads -= 1
            self.result.cancel()  # without effect on a result

    @contextmanager
    def _cancelled_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._task.cancel()
            raise
