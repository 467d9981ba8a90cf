"""Split a database with users into partitions while the service runs, and unite it again.

All partitions are schemas of the home partition's database, so each user is moved by one
transaction (`scope_moves`). See docs/adr/0025-splitting-a-database.md.

1. Triggers list the users that will be moved, and keep the list complete (`scope_fence`).
2. The directory's state becomes `adopting` (or `returning`), in one transaction. From then on new
   users are created at their new partition, and the triggers refuse what comes too late.
3. After a while in which every process has read the directory, users are moved one by one.
4. When the list is empty, the state becomes `serving` (or `prepared`), and the triggers go.

Each step may be interrupted and is continued by the same command. `return_users` after an
interrupted `adopt` undoes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from luma_memory.domain.errors import Conflict, StoreUnavailable
from luma_memory.domain.partition import HOME, Layout, Partition, layout_of, partition_number
from luma_memory.domain.scope import Scope
from luma_memory.partitions.arrivals import leave_nothing, prepare_arrivals
from luma_memory.partitions.move_locks import no_moves
from luma_memory.partitions.places import MOVING_SECONDS
from luma_memory.partitions.scope_fence import (
    EXEMPT,
    JOBS_INDEX,
    WRITERS_KEY,
    Fence,
    execute_with_retries,
    scope_tables,
)
from luma_memory.partitions.scope_moves import PAUSE_SECONDS, ScopeMover, UserBusyError
from luma_memory.postgres.database import Database, quoted_name
from luma_memory.postgres.errors import translated
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.postgres.table_copies import LONG_SECONDS, Table, enter
from luma_memory.store.partition_moves import PartitionMoves
from luma_memory.store.partitions import PartitionDirectory

_SQL = SqlFile(__name__)
# Users that are moved at the same time, each paused for itself.
MOVERS: Final = 4
_PAGE_USERS: Final = 200
# A user who is busy is tried again after the others.
_BUSY_MAX: Final = 30
_LARGE_BUSY_MAX: Final = 3
_BUSY_WAIT_SECONDS: Final = 0.25
# A mover that is frozen in the middle of a pause loses its transaction, and so the pause ends.
_IDLE_TIMEOUT: Final = "3s"
_MOVERS_KEY: Final = "hashtextextended('memory_partition_movers', 0)"


@dataclass(frozen=True, slots=True)
class AdoptionStep:
    """What has just been done: `listed`, `begun`; `copied`, `locked`, `written`, `moved` for one
    user; `emptied`, `ended`."""

    name: str
    users: int  # moved by this run
    left: int  # as far as it is known


@dataclass(frozen=True, slots=True)
class AdoptionReport:
    """pause_ms_max: how long the writes of one user waited at most."""

    users: int
    rows: int
    pause_ms_max: float
    partitions: int


class Adoption:
    """on_step: called after each step."""

    def __init__(
        self, home: Database, *, on_step: Callable[[AdoptionStep], None] = lambda _: None
    ) -> None:
        self._home = home
        self._on_step = on_step
        self._directory = PartitionDirectory(home)
        self._partitions: Sequence[Partition] = ()
        self._users, self._rows, self._pause_ms, self._left = 0, 0, 0.0, 0
        self._busy: Counter[Scope] = Counter()
        self._given_up: set[Scope] = set()

    async def adopt(self) -> AdoptionReport:
        """Move users to the partitions, which are prepared. Raises Conflict and StoreUnavailable.

        After either, all users are served, each where they are; the command continues when it is
        repeated. Code processes_not_ready: nothing was begun.
        """
        async with self._alone() as (connection, layout):
            if layout == "returning":
                raise Conflict(
                    "Users are being returned to the home partition: finish that with --back first",
                    code="adoption_unfinished",
                )
            fence = self._fence(HOME)
            if layout == "home":
                await self._check_processes(connection)
            if layout != "spread":
                await fence.start(connection)
                self._step("listed")
                await prepare_arrivals(self._home, connection, self._partitions)
            if layout == "home":
                await self._check_processes(connection)
                await self._change(connection, "prepared", "adopting")
            if layout != "spread":
                self._step("begun")
                await asyncio.sleep(MOVING_SECONDS)
                await self._move_all(connection, [HOME])
                await execute_with_retries(
                    connection, f"SELECT restrict_memory_partition({HOME}, {len(self._partitions)})"
                )
                await self._change(connection, "adopting", "serving")
                self._step("emptied")
            await fence.end(connection)
            return self._report()

    async def return_users(self) -> AdoptionReport:
        """Move all users back to the home partition; also undoes an interrupted `adopt`.

        Raises as `adopt`.
        """
        async with self._alone() as (connection, layout):
            others = range(HOME + 1, len(self._partitions))
            if layout not in {"home", "returning"}:
                if layout == "spread":
                    await self._check_processes(connection)
                for number in others:
                    await self._fence(number).start(connection)
                self._step("listed")
                await execute_with_retries(connection, self._text(_SQL["return_begins"], HOME))
                self._step("begun")
            elif layout == "returning":
                for number in others:
                    await self._fence(number).start(connection)
            await self._fence(HOME).end(connection)
            if layout != "home":
                await asyncio.sleep(MOVING_SECONDS)
                await self._move_all(connection, others)
                for number in others:
                    await leave_nothing(
                        connection, self._partitions[number].schema, self._partitions[HOME].schema
                    )
                await self._change(connection, "returning", "prepared")
                self._step("emptied")
            for number in others:
                await self._fence(number).end(connection)
            return self._report()

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[tuple[asyncpg.Connection, Layout]]:
        """A connection to the home partition; no other command moves anything meanwhile."""
        with translated():
            try:
                async with no_moves(self._home) as connection:
                    layout = await self._begun(connection)
                    yield connection, layout
            except asyncpg.LockNotAvailableError as error:
                raise StoreUnavailable("A lock stayed taken: try again") from error

    async def _begun(self, connection: asyncpg.Connection) -> Layout:
        """How the partitions are used. Raises Conflict if they cannot be."""
        await self._wait_for_movers(connection)
        self._partitions = await self._directory.partitions()
        layout = layout_of(self._partitions)
        if layout is None or len(self._partitions) < 2:
            raise Conflict(
                "There are no complete partitions: create them first",
                code="partitions_missing",
            )
        if await PartitionMoves(self._home).all() or any(
            one.dsn is not None for one in self._partitions
        ):
            raise Conflict(
                "A partition is at another address, or is being moved: all partitions have to be in"
                " the database of DATABASE_URL",
                code="partition_elsewhere",
            )
        await enter(connection, self._partitions[HOME].schema)
        return layout

    async def _wait_for_movers(self, connection: asyncpg.Connection) -> None:
        """Those of a command that was killed: the server may still be at their last statement."""
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await connection.execute(f"SELECT pg_advisory_xact_lock({_MOVERS_KEY})")

    async def _check_processes(self, connection: asyncpg.Connection) -> None:
        """Raises Conflict while a process does not know that there are partitions."""
        names = [row["name"] for row in await connection.fetch(_SQL["other_processes"])]
        if names:
            raise Conflict(
                f"{len(names)} connections are of processes that do not know of the partitions"
                f" ({', '.join(sorted(set(names)))}): restart all API and worker processes, one"
                " after the other if you like, and repeat the command",
                code="processes_not_ready",
            )

    def _fence(self, number: int) -> Fence:
        home = number == HOME
        return Fence(
            self._partitions[number].schema,
            self._partitions[HOME].schema,
            len(self._partitions),
            kept=HOME if home else -1,
            lists_in=("prepared",) if home else ("serving", "adopting"),
            moves_in="adopting" if home else "returning",
        )

    def _text(self, text: str, number: int) -> str:
        return text.replace("/*home*/", quoted_name(self._partitions[number].schema)).replace(
            "/*writers*/", WRITERS_KEY
        )

    async def _change(self, connection: asyncpg.Connection, state: str, new: str) -> None:
        """The state of all partitions but the home partition, while no writer is in progress."""
        text = _SQL["change_state"].replace("/*before*/", state).replace("/*after*/", new)
        await execute_with_retries(connection, self._text(text, HOME))

    async def _move_all(self, connection: asyncpg.Connection, numbers: Sequence[int]) -> None:
        for number in numbers:
            schema = self._partitions[number].schema
            tables = await scope_tables(connection, schema)
            await self._index_jobs(connection, schema)
            async with contextlib.AsyncExitStack() as stack:
                movers = [
                    await stack.enter_async_context(self._mover(schema, tables))
                    for _ in range(MOVERS)
                ]
                await self._move_from(connection, number, movers)

    async def _index_jobs(self, connection: asyncpg.Connection, schema: str) -> None:
        """Jobs have no index by user, and all of a user's are read in the pause."""
        name = f"{quoted_name(schema)}.{JOBS_INDEX}"
        if await connection.fetchval(_SQL["is_valid_index"], name) is False:
            await connection.execute(f"DROP INDEX CONCURRENTLY {name}", timeout=LONG_SECONDS)
        await connection.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {JOBS_INDEX}"
            f" ON {quoted_name(schema)}.memory_jobs (project_id, user_id)",
            timeout=LONG_SECONDS,
        )

    @contextlib.asynccontextmanager
    async def _mover(self, schema: str, tables: Sequence[Table]) -> AsyncIterator[ScopeMover]:
        connection = await self._home.dedicated()
        try:
            await enter(connection, schema)
            await connection.execute(
                f"SET {EXEMPT} = 'on'; SET idle_in_transaction_session_timeout = '{_IDLE_TIMEOUT}'"
            )
            await connection.execute(f"SELECT pg_advisory_lock_shared({_MOVERS_KEY})")
            mover = ScopeMover(connection, schema, tables, self._step)
            await mover.prepare()
            yield mover
        finally:
            connection.terminate()

    async def _move_from(
        self, connection: asyncpg.Connection, number: int, movers: Sequence[ScopeMover]
    ) -> None:
        """All users of a partition, until none is listed."""
        count, page = [
            self._text(_SQL[name], number) for name in ("count_listed", "page_of_listed")
        ]
        after = ("", "")
        while True:
            self._left = await connection.fetchval(count)
            if not self._left:
                return
            if self._left <= len(self._given_up):
                raise Conflict(
                    f"{self._left} users change faster, or have more rows, than a pause of"
                    f" {PAUSE_SECONDS:g} s allows: all others are moved; repeat the command at a"
                    " quieter time, or undo it with --back",
                    code="user_busy",
                )
            rows = await connection.fetch(page, *after, _PAGE_USERS)
            if not rows:
                after = ("", "")
                await asyncio.sleep(_BUSY_WAIT_SECONDS)
                continue
            after = (rows[-1]["project_id"], rows[-1]["user_id"])
            scopes = [Scope(row["project_id"], row["user_id"]) for row in rows]
            chosen = [scope for scope in scopes if scope not in self._given_up]
            await self._move_page(chosen, number, movers)

    async def _move_page(
        self, scopes: Sequence[Scope], number: int, movers: Sequence[ScopeMover]
    ) -> None:
        waiting, large = list(scopes), list[Scope]()

        async def work(mover: ScopeMover) -> None:
            while waiting:
                scope = waiting.pop()
                if await mover.is_large(scope):
                    large.append(scope)
                else:
                    await self._move(mover, scope, number, is_large=False)

        try:
            async with asyncio.TaskGroup() as group:
                for mover in movers:
                    group.create_task(work(mover))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        for scope in large:
            await self._move(movers[0], scope, number, is_large=True)

    async def _move(self, mover: ScopeMover, scope: Scope, number: int, *, is_large: bool) -> None:
        new = HOME if number != HOME else partition_number(scope, len(self._partitions))
        target = self._partitions[new].schema
        mover.disregards_deliveries = self._busy[scope] > _BUSY_MAX // 2
        try:
            moved = await (mover.move_large if is_large else mover.move)(scope, target)
        except UserBusyError:
            self._busy[scope] += 1
            # The rows of a large user are copied anew each time.
            if self._busy[scope] > (_LARGE_BUSY_MAX if is_large else _BUSY_MAX):
                self._given_up.add(scope)
            return
        self._users += 1
        self._rows += moved.rows
        self._pause_ms = max(self._pause_ms, moved.pause_ms)

    def _step(self, name: str) -> None:
        self._on_step(AdoptionStep(name, self._users, self._left))

    def _report(self) -> AdoptionReport:
        return AdoptionReport(self._users, self._rows, self._pause_ms, len(self._partitions))
