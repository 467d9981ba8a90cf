"""Move a partition to another schema or server while the service runs.

Its rows are copied while it serves, and a log of changed keys (`postgres.change_log`) is followed
in rounds until one is short. Then the partition is paused: its tables are locked, the last changes
copied and compared, and in the same transaction the old schema is renamed and refuses writes. The
directory then names the new place. See docs/adr/0024-moving-partitions.md.

What is done is in three places, so that a command that was killed continues when it is repeated:
the home partition has the move's record, the source the log of changes, the target the copied keys,
each in the transaction that copied them. Until the old schema is renamed, the move can be undone;
then it only has to be finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg

from luma_memory.domain.errors import (
    Conflict,
    Invalid,
    NotFound,
    SetupError,
    StoreContended,
    StoreUnavailable,
)
from luma_memory.domain.partition import ACTIVE_STATES, HOME, Partition
from luma_memory.partitions.move_locks import no_moves
from luma_memory.partitions.move_target import NOT_COPIED, Target, open_target
from luma_memory.postgres.change_log import (
    CopyDiffersError,
    apply_changes,
    compare,
    end_log,
    start_log,
)
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.errors import translated
from luma_memory.postgres.former_place import leave_place, return_to_place
from luma_memory.postgres.migrator import schema_is_current
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.postgres.table_copies import Amount, Table, continue_sequences, enter, tables
from luma_memory.store.partition_moves import MovePhase, MoveRecord, PartitionMoves
from luma_memory.store.partitions import PartitionDirectory

_SQL = SqlFile(__name__)
# A write waits 2.5 s for the end of a pause: the work in it has to end before.
PAUSE_SECONDS: Final = 1.5
# The pause begins when a round takes no longer than this, and compares all rows if that takes no
# longer.
_SHORT_SECONDS: Final = 0.4
_ROUNDS_MAX: Final = 100
_ATTEMPTS_MAX: Final = 10
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_NOTED_SECONDS: Final = 1.0
_ATTEMPT_WAIT_SECONDS: Final = 0.5
# Locked first, in the order in which the service locks rows.
_FIRST_LOCKED: Final = ("memory_jobs", "memory_users")


@dataclass(frozen=True, slots=True)
class MoveStep:
    """What a move has just done: `begun`, `copied a chunk`, `copied`, `round`, `compared`,
    `paused`, `locked` (the new place is complete, the old one still valid), `renamed`, `moved`,
    `retrying`."""

    name: str
    table: str | None
    amount: Amount
    rounds: int


@dataclass(frozen=True, slots=True)
class MoveReport:
    """A finished move. pause_ms: how long writes of the partition's users waited at most."""

    number: int
    schema: str
    rows: int
    bytes: int
    rounds: int
    attempts: int
    pause_ms: float | None  # None: another run of the command made the pause
    old_schema: str


class PartitionMove:
    """Moves one partition. on_step: called after each step."""

    def __init__(
        self, home: Database, number: int, *, on_step: Callable[[MoveStep], None] = lambda _: None
    ) -> None:
        self._home = home
        self._number = number
        self._on_step = on_step
        self._directory = PartitionDirectory(home)
        self._moves = PartitionMoves(home)
        self._holder: asyncpg.Connection | None = None  # of the lock of moves
        self._amount, self._rounds, self._noted_at = Amount(), 0, 0.0

    async def run(self, address: str, schema: str | None, *, drop_old: bool = False) -> MoveReport:
        """Move the partition, or finish an interrupted move to the same place.

        schema: at the target; by default as now. Raises Conflict, NotFound, SetupError and
        StoreUnavailable. The partition then serves where it was; only after StoreUnavailable the
        copy is kept, for the command to continue with.
        """
        with translated():
            async with self._alone() as (partition, source):
                schema = schema or partition.schema
                if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
                    raise Invalid(
                        "A schema has at most 63 lower-case letters, digits and _, and does not"
                        " start with a digit or pg_",
                        field="schema",
                    )
                async with open_target(self._home, source, address, schema) as target:
                    record = await self._record(partition, target)
                    try:
                        report = await self._move(partition, record, source, target)
                    except (CopyDiffersError, Conflict, SetupError) as error:
                        await self._restore(partition)
                        await target.drop(record.move_id)
                        await self._moves.end(self._number)
                        if isinstance(error, CopyDiffersError):
                            raise Conflict(
                                f"The copy of {error} differs from the original: nothing was moved",
                                code="copy_differs",
                            ) from error
                        raise
                    with contextlib.suppress(asyncpg.PostgresError, OSError):
                        await target.unmark()
                        if drop_old:
                            await self._empty(source, record.old_schema)
                    return report

    async def undo(self) -> None:
        """Remove what an interrupted move left; the partition serves where it was.

        A move whose old schema was renamed already is not over, but complete: it is undone too, as
        nothing has been written at the new place. Raises NotFound without such a move.
        """
        with translated():
            async with self._alone() as (partition, source):
                record = await self._moves.read(self._number)
                if record is None:
                    raise NotFound(f"No move of partition {self._number} is unfinished")
                if await self._has_switched(record, source):
                    async with source.transaction():
                        await return_to_place(source, partition.schema, record.old_schema)
                await self._restore(partition)
                # The record stays until the copy is gone.
                async with open_target(self._home, source, record.dsn, record.schema) as target:
                    await target.drop(record.move_id)
                await self._moves.end(self._number)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[tuple[Partition, asyncpg.Connection]]:
        """The partition and a connection to it; no other command moves one meanwhile."""
        async with no_moves(self._home) as holder:
            self._holder = holder
            known = {one.number: one for one in await self._directory.partitions()}
            partition = known.get(self._number)
            if partition is None or partition.state not in ACTIVE_STATES:
                raise NotFound(f"There is no partition {self._number} with users")
            if self._number == HOME:
                raise Conflict(
                    "The home partition cannot be moved by this command: move its database by a"
                    " backup or a replica, and change DATABASE_URL",
                    code="home_partition",
                )
            database = self._home.beside(schema=partition.schema, dsn=partition.dsn)
            source = await database.dedicated()
            try:
                await enter(source, partition.schema)
                yield partition, source
            finally:
                source.terminate()
                await database.close()

    async def _record(self, partition: Partition, target: Target) -> MoveRecord:
        record = await self._moves.read(self._number)
        if record is None:
            await target.check_free()
            stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
            record = await self._moves.begin(
                self._number,
                schema=target.schema,
                dsn=target.dsn,
                old_schema=f"{partition.schema[:40]}_moved_{stamp}",
            )
        elif (record.dsn, record.schema) != (target.dsn, target.schema):
            raise Conflict(
                f"Partition {self._number} is being moved to another place: repeat that command, or"
                " undo it with --undo",
                code="move_unfinished",
            )
        return record

    async def _move(
        self,
        partition: Partition,
        record: MoveRecord,
        source: asyncpg.Connection,
        target: Target,
    ) -> MoveReport:
        if await self._has_switched(record, source):
            await self._moves.switch(record)
            return self._report(record, 0, None)
        if partition.state == "paused":  # by a command that died
            await self._directory.set_state(self._number, "serving")
        await self._check_source(partition, source)
        await target.prepare(record.move_id, self._number, len(await self._directory.partitions()))
        copied = [
            one for one in await tables(source, partition.schema) if one.name not in NOT_COPIED
        ]
        await self._start_log(source, partition.schema, copied)
        self._step("begun")
        await self._copy(partition.schema, source, target, copied)
        quick = await self._follow(partition.schema, source, target, copied)
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            pause_ms = await self._switch(partition, record, source, target, copied, quick=quick)
            if pause_ms is not None:
                return self._report(record, attempt, pause_ms)
            self._step("retrying")
            await asyncio.sleep(_ATTEMPT_WAIT_SECONDS * attempt)
            await self._round(partition.schema, source, target, copied)
        raise Conflict(
            f"Partition {self._number} changes faster than a pause of {PAUSE_SECONDS:g} s allows:"
            " nothing was moved; try again at a quieter time",
            code="partition_busy",
        )

    async def _check_source(self, partition: Partition, source: asyncpg.Connection) -> None:
        if await source.fetchval(_SQL["has_extension"], partition.schema):
            raise Conflict(
                f"pgvector is in the schema {partition.schema} itself and would be renamed with it:"
                " run ALTER EXTENSION vector SET SCHEMA public; in this database, and restart API"
                " processes and workers",
                code="pgvector_in_partition",
            )
        place = self._home.beside(schema=partition.schema, dsn=partition.dsn)
        try:
            if not await schema_is_current(place):
                raise SetupError(
                    f"Partition {self._number} is not current: run luma-memory migrate first",
                    code="schema_missing",
                )
        finally:
            await place.close()

    async def _start_log(
        self, source: asyncpg.Connection, schema: str, copied: Sequence[Table]
    ) -> None:
        for attempt in range(_ATTEMPTS_MAX):
            try:
                await start_log(source, schema, copied)
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(_ATTEMPT_WAIT_SECONDS * (attempt + 1))
            else:
                return
        raise Conflict(
            "A table of the partition stays in use by a long transaction: try again later",
            code="partition_busy",
        )

    async def _copy(
        self, schema: str, source: asyncpg.Connection, target: Target, copied: Sequence[Table]
    ) -> None:
        for table in copied:
            self._amount = self._amount.plus(await target.copied_before(table))
            while (amount := await target.copy(source, schema, table)) is not None:
                self._amount = self._amount.plus(amount)
                self._step("copied a chunk", table.name)
                await self._note("copying")
        await target.analyze(copied)
        self._step("copied")

    async def _follow(
        self, schema: str, source: asyncpg.Connection, target: Target, copied: Sequence[Table]
    ) -> bool:
        """Copy changes until a round is short, and compare all rows; whether that took a moment."""
        for _ in range(_ROUNDS_MAX):
            if await self._round(schema, source, target, copied) <= _SHORT_SECONDS:
                break
        began = time.monotonic()
        async with source.transaction(isolation="repeatable_read"), target.connection.transaction():
            await compare(source, schema, target.connection, target.schema, copied)
        seconds = time.monotonic() - began
        self._step("compared")
        if seconds > _SHORT_SECONDS:
            for _ in range(_ROUNDS_MAX):
                if await self._round(schema, source, target, copied) <= _SHORT_SECONDS:
                    break
        return seconds <= _SHORT_SECONDS

    async def _round(
        self, schema: str, source: asyncpg.Connection, target: Target, copied: Sequence[Table]
    ) -> float:
        """Its seconds. The target's transaction is committed first."""
        began = time.monotonic()
        async with source.transaction(isolation="repeatable_read"), target.connection.transaction():
            amount = await apply_changes(source, schema, target.connection, target.schema, copied)
        self._amount = self._amount.plus(amount)
        self._rounds += 1
        self._step("round")
        await self._note("following", at_once=True)
        return time.monotonic() - began

    async def _switch(
        self,
        partition: Partition,
        record: MoveRecord,
        source: asyncpg.Connection,
        target: Target,
        copied: Sequence[Table],
        *,
        quick: bool,
    ) -> float | None:
        """Pause and switch; the pause in milliseconds. None if it would have taken too long."""
        began = time.monotonic()
        try:
            await self._directory.set_state(self._number, "paused")
            self._step("paused")
            async with source.transaction():
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._finish_copy(partition.schema, source, target, copied, quick=quick)
                    await self._note("switching", at_once=True)
                    self._step("locked")
                    await leave_place(
                        source,
                        partition.schema,
                        record.old_schema,
                        await tables(source, partition.schema),
                    )
            self._step("renamed")
            await self._moves.switch(record)
        except (asyncpg.LockNotAvailableError, TimeoutError):
            await self._directory.set_state(self._number, "serving")
            if source.is_closed() or target.connection.is_closed():
                raise StoreUnavailable("PostgreSQL does not respond") from None
            return None
        except BaseException:
            await self._settle(partition, record, source)
            raise
        self._step("moved")
        return (time.monotonic() - began) * 1000

    async def _finish_copy(
        self,
        schema: str,
        source: asyncpg.Connection,
        target: Target,
        copied: Sequence[Table],
        *,
        quick: bool,
    ) -> None:
        # Shorter than the time after which PostgreSQL ends one side of a deadlock.
        await source.execute("SET LOCAL lock_timeout = '400ms'")
        names = [table.name for table in copied]
        for name in (*_FIRST_LOCKED, *(name for name in names if name not in _FIRST_LOCKED)):
            await source.execute(
                f"LOCK TABLE {quoted_name(schema)}.{quoted_name(name)} IN EXCLUSIVE MODE"
            )
        assert self._holder is not None
        await self._holder.execute("SELECT")  # fails if its session, and so the lock, is gone
        await target.check_version(source, schema)
        async with target.connection.transaction():
            amount = await apply_changes(source, schema, target.connection, target.schema, copied)
            if quick:
                await compare(source, schema, target.connection, target.schema, copied)
            await continue_sequences(source, schema, target.connection, target.schema)
        self._amount = self._amount.plus(amount)
        self._rounds += 1

    async def _settle(
        self, partition: Partition, record: MoveRecord, source: asyncpg.Connection
    ) -> None:
        """After an interruption: the move is finished if it was committed, or the pause ends."""
        database = self._home.beside(schema=partition.schema, dsn=partition.dsn)
        try:
            pid = None if source.is_closed() else source.get_server_pid()
            source.terminate()
            fresh = await database.dedicated()
            try:
                if pid is not None:
                    await fresh.fetchval(_SQL["end_session"], pid)
                    async with asyncio.timeout(PAUSE_SECONDS):
                        while await fresh.fetchval(_SQL["has_session"], pid):  # noqa: ASYNC110
                            await asyncio.sleep(0.01)
                if await self._has_switched(record, fresh):
                    await self._moves.switch(record)
                    return
            finally:
                fresh.terminate()
        finally:
            await database.close()
        await self._directory.set_state(self._number, "serving")

    async def _has_switched(self, record: MoveRecord, source: asyncpg.Connection) -> bool:
        """Whether the old schema was renamed: from then on the new place is the valid one."""
        return bool(await source.fetchval(_SQL["has_schema"], quoted_name(record.old_schema)))

    async def _restore(self, partition: Partition) -> None:
        """The partition serves where it was, and changes are no longer logged."""
        await self._directory.set_state(self._number, "serving")
        database = self._home.beside(schema=partition.schema, dsn=partition.dsn)
        source = await database.dedicated()
        try:
            logged = await tables(source, partition.schema)
            for attempt in range(_ATTEMPTS_MAX):
                try:
                    await end_log(source, partition.schema, logged)
                except asyncpg.LockNotAvailableError:
                    await asyncio.sleep(_ATTEMPT_WAIT_SECONDS * (attempt + 1))
                else:
                    return
            raise StoreContended("A table of the partition stays in use: undo the move again later")
        finally:
            source.terminate()
            await database.close()

    async def _empty(self, source: asyncpg.Connection, schema: str) -> None:
        """The tables stay: their absence would lead late statements to another installation."""
        names = ", ".join(table.in_schema(schema) for table in await tables(source, schema))
        await source.execute(f"TRUNCATE {names}", timeout=600)

    async def _note(self, phase: MovePhase, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._noted_at >= _NOTED_SECONDS:
            self._noted_at = now
            await self._moves.note(
                self._number,
                phase,
                rows=self._amount.rows,
                bytes_=self._amount.bytes,
                rounds=self._rounds,
            )

    def _step(self, name: str, table: str | None = None) -> None:
        self._on_step(MoveStep(name, table, self._amount, self._rounds))

    def _report(self, record: MoveRecord, attempts: int, pause_ms: float | None) -> MoveReport:
        return MoveReport(
            number=self._number,
            schema=record.schema,
            rows=self._amount.rows or record.rows,
            bytes=self._amount.bytes or record.bytes,
            rounds=self._rounds or record.rounds,
            attempts=attempts,
            pause_ms=pause_ms,
            old_schema=record.old_schema,
        )
