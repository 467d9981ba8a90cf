"""The partitions of an installation, as this process knows them.

The directory in the home partition (`memory_partitions`) has the truth. A process reads it at its
start, then every DIRECTORY_SECONDS, at once when PostgreSQL notifies it (channel
`memory_partitions`), and at once when a statement finds that a partition is not where it was. While
the home partition is away, the last known directory stays.

What a change means for a process:
- `paused`: reads continue; a write waits for the end of the pause, PAUSE_SECONDS at most, without a
  connection, and then raises PartitionPaused (503 with Retry-After). Other partitions continue.
- `adopting`, `returning`: users are in transit, one by one; see `user_locations`.
- another schema or address: all later statements go there. A statement that still meets the old
  place, without its tables, reads the directory and runs again at the new one: it did nothing.

A process that cannot read the directory knows of no pause, so a pause alone does not keep every
write away: see docs/adr/0021-routing.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import asyncpg

from luma_memory.concurrency.deadline import within
from luma_memory.domain.errors import (
    LumaMemoryError,
    PartitionMismatch,
    PartitionPaused,
    SetupError,
    StoreContended,
    StoreUnavailable,
)
from luma_memory.domain.partition import (
    HOME,
    Layout,
    Partition,
    PartitionFault,
    layout_of,
    partition_number,
)
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.postgres.errors import translated
from luma_memory.postgres.partition import PartitionDatabase

ResultT = TypeVar("ResultT")
CHANNEL: Final = "memory_partitions"
DIRECTORY_SECONDS: Final = 1.0
# How long a write waits for the end of a pause.
PAUSE_SECONDS: Final = 2.5
# After so many failures in a row, statements for a partition fail at once: they would only hold
# connections and requests. One is tried at these intervals.
FAILURES_MAX: Final = 3
# Questions about a partition's state, of which health asks all at once.
QUESTION_SECONDS: Final = 0.3
RETRY_SECONDS: Final = 1.0
# A process acts on what it last read of the directory for so long; then it reads first.
KNOWN_SECONDS: Final = 2.0
# Users are moved from MOVING_SECONDS after a change of the layout on: a call that began with the
# former one and takes no longer than this has ended.
MOVING_SECONDS: Final = 3.0
OVERTAKEN_SECONDS: Final = 0.5
_ARRIVED_MAX: Final = 100_000
Directory = Callable[[], Awaitable[Sequence[Partition]]]
OpenServer = Callable[[str], Database]


class _LateResponse(StoreUnavailable):
    """A question about a partition's state took too long; it may only be busy."""


class Place:
    """One partition: where it is, its state, and whether it responds."""

    def __init__(self, partition: Partition, database: PartitionDatabase) -> None:
        self.partition = partition
        self.database = database
        self.error: str | None = None  # of the last statement, if the partition did not respond
        self._failures = 0
        self._tried_at = float("-inf")
        self._is_open = asyncio.Event()
        self._note_state()

    @property
    def number(self) -> int:
        return self.partition.number

    @property
    def is_paused(self) -> bool:
        """Whether writes wait."""
        return self.partition.state == "paused"

    @property
    def is_away(self) -> bool:
        """Whether it did not respond at the last attempts."""
        return self._failures >= FAILURES_MAX

    async def opened(self) -> None:
        """Return when writes may begin. Raises PartitionPaused."""
        if not self._is_open.is_set():
            try:
                await within(self._is_open.wait(), PAUSE_SECONDS)
            except TimeoutError:
                raise PartitionPaused(
                    "Writes of this user are paused for a moment: their partition is being moved"
                ) from None

    def update(self, partition: Partition) -> None:
        self.partition = partition
        self._note_state()

    def _note_state(self) -> None:
        if self.is_paused:
            self._is_open.clear()
        else:
            self._is_open.set()

    def check(self) -> None:
        """Raises StoreUnavailable if the last attempts failed; lets one through at intervals."""
        if not self.is_away:
            return
        now = time.monotonic()
        if now - self._tried_at < RETRY_SECONDS:
            raise StoreUnavailable(f"Partition {self.number} does not respond")
        self._tried_at = now

    def note(self, error: LumaMemoryError | None) -> None:
        """How a statement ended."""
        if error is None:
            self._failures, self.error = 0, None
        elif _is_outage(error):
            self.error = str(error)
            if not isinstance(error, _LateResponse):  # requests may take longer
                self._failures += 1
                self._tried_at = time.monotonic()


class Places:
    """All partitions, in order of their numbers."""

    def __init__(
        self,
        partitions: Sequence[Partition],
        *,
        home: Database,
        open_server: OpenServer,
        read_directory: Callable[[Database], Awaitable[Sequence[Partition]]],
        finish_move: Callable[[Database, Partition], Awaitable[None]] | None = None,
    ) -> None:
        """home: the server of DATABASE_URL. open_server: connects lazily to another address.

        finish_move: called when a partition is not where the directory says; completes a move whose
        command ended before it wrote the new place down.
        """
        self._home = home
        self._open_server = open_server
        self._servers: dict[str | None, Database] = {None: home}
        self._read_directory = read_directory
        self._finish_move = finish_move
        self._read_at = time.monotonic()
        self.layout: Layout = layout_of(partitions) or "home"
        # Rises with each change of the layout.
        self.layout_number = 0
        # Users who are at their new partition already, as far as this process knows.
        self.arrived: dict[Scope, None] = {}
        self.all = [
            Place(one, PartitionDatabase(self._server(one.dsn), one.schema)) for one in partitions
        ]
        self._on_move: list[Callable[[], None]] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        return len(self.all)

    @property
    def home(self) -> PartitionDatabase:
        return self.all[HOME].database

    @property
    def _has_addresses(self) -> bool:
        return any(place.partition.dsn is not None for place in self.all)

    @property
    def moves_users(self) -> bool:
        """Whether users are in transit between partitions, one by one."""
        return self.layout in {"adopting", "returning"}

    def number_of(self, scope: Scope) -> int:
        """The partition that has the user; while users are moved, the one that probably does."""
        if self.layout == "home":
            return HOME
        number = partition_number(scope, len(self.all))
        if self.layout == "spread":
            return number
        return number if (self.layout == "adopting") == (scope in self.arrived) else HOME

    def note_arrival(self, scope: Scope, layout_number: int) -> None:
        """The user is at their new partition, where they stay until the layout changes.

        layout_number: when that was found out, as it may have changed since.
        """
        if layout_number != self.layout_number:
            return
        if len(self.arrived) >= _ARRIVED_MAX:
            self.arrived.clear()
        self.arrived[scope] = None

    async def know(self) -> None:
        """Return when this process knows the layout of at most KNOWN_SECONDS ago.

        The layout changes only while all partitions are in one database: a process that knows of
        others need not know, and serves their users while the home partition does not respond.
        Raises StoreUnavailable.
        """
        if time.monotonic() - self._read_at > KNOWN_SECONDS and not self._has_addresses:
            await self.refresh()

    async def is_overtaken(self, began: float) -> bool:
        """Whether users may have been moved since that `time.monotonic()`, at which a call began
        that knew of no moves. Raises StoreUnavailable."""
        if time.monotonic() - began < OVERTAKEN_SECONDS or self._has_addresses:
            return False
        await self.refresh()
        return self.moves_users

    def servers(self) -> Sequence[tuple[Database, Sequence[Place]]]:
        """Each address with its partitions; the home partition's first."""
        found: dict[int, tuple[Database, list[Place]]] = {}
        for place in self.all:
            server = place.database.server
            found.setdefault(id(server), (server, []))[1].append(place)
        return list(found.values())

    def on(self, server: Database) -> Sequence[PartitionDatabase]:
        """The partitions of a server that serve."""
        return [place.database for place in self.all if place.database.server is server]

    def on_move(self, call: Callable[[], None]) -> None:
        """Call whenever a partition has another address."""
        self._on_move.append(call)

    def was_away_since(self, moment: float) -> bool:
        """Whether any server failed to respond after that `time.monotonic()`."""
        return any(server.was_away_since(moment) for server in self._servers.values())

    def faults(self) -> Sequence[PartitionFault]:
        """Partitions that did not respond to their last statement, or are paused."""
        return [
            PartitionFault(place.number, place.partition.state, place.error)
            for place in self.all
            if place.error is not None or place.is_paused
        ]

    async def first(self, question: Callable[[Database], Awaitable[ResultT]]) -> ResultT:
        """The result of a partition of the first server that responds soon.

        Raises StoreUnavailable if none does.
        """
        for _, places in self.servers():
            ask = partial(_ask, question, places[0].database)
            try:
                return await self.run(places[0].number, ask, writes=False)
            except StoreUnavailable as error:
                failed = error
        raise failed

    async def refresh(self) -> None:
        """Read the directory now; concurrent calls share a statement. Raises StoreUnavailable."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="partition-directory")
        await asyncio.shield(self._refreshing)

    async def run(
        self, number: int, work: Callable[[], Awaitable[ResultT]], *, writes: bool
    ) -> ResultT:
        """The result of `work`, which uses this partition.

        writes: wait for the end of a pause first. Raises PartitionPaused, StoreUnavailable, and as
        `work`. If the partition was moved in the meantime, `work` is called once more.
        """
        place = self.all[number]
        if writes and place.is_paused:
            await place.opened()
        place.check()
        before = place.partition
        try:
            result = await work()
        except (PartitionMismatch, SetupError):
            with contextlib.suppress(LumaMemoryError):
                await self.refresh()
                if place.partition == before and self._finish_move is not None:
                    await self._finish_move(self.home, before)
                    await self.refresh()
            if place.partition == before:
                raise
            if writes:
                await place.opened()
            return await work()
        except LumaMemoryError as error:
            place.note(error)
            raise
        place.note(None)
        return result

    def watch(self) -> None:
        """Follow the directory until `close`."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="partition-watch")

    async def close(self) -> None:
        """End the watch and close all servers but the home partition's. Idempotent."""
        tasks = [task for task in (self._watching, self._refreshing) if task is not None]
        self._watching = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for address, server in self._servers.items():
            if address is not None:
                await server.close()

    def _server(self, dsn: str | None) -> Database:
        if dsn not in self._servers:
            assert dsn is not None
            self._servers[dsn] = self._open_server(dsn)
        return self._servers[dsn]

    async def _refresh(self) -> None:
        began = time.monotonic()
        partitions = (await self._read_directory(self.home))[: len(self.all)]
        # Those created after this process are not used: it has to be restarted for them.
        for one in partitions:
            place = self.all[one.number]
            if one == place.partition:
                continue
            if (one.dsn, one.schema) != (place.partition.dsn, place.partition.schema):
                place.database.move(self._server(one.dsn), one.schema)
                for call in self._on_move:
                    call()
            place.update(one)
        layout = layout_of(partitions)
        if layout is not None and layout != self.layout:
            self.layout = layout
            self.layout_number += 1
            self.arrived.clear()
        self._read_at = began

    async def _watch(self) -> None:
        """One connection listens, if the home partition allows it; the interval always runs too."""
        changed = asyncio.Event()
        listening: asyncpg.Connection | None = None
        try:
            while True:
                with contextlib.suppress(LumaMemoryError):
                    if listening is None or listening.is_closed():
                        listening = await self._listen(changed)
                    await self.refresh()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DIRECTORY_SECONDS):
                        await changed.wait()
                changed.clear()
        finally:
            if listening is not None:
                listening.terminate()

    async def _listen(self, changed: asyncio.Event) -> asyncpg.Connection:
        connection = await self.home.dedicated()
        try:
            with translated():
                await connection.add_listener(CHANNEL, lambda *_details: changed.set())
        except BaseException:
            connection.terminate()
            raise
        return connection


async def _ask(question: Callable[[Database], Awaitable[ResultT]], place: Database) -> ResultT:
    return await soon(question(place))


async def soon(question: Awaitable[ResultT]) -> ResultT:
    """The result within QUESTION_SECONDS. Raises StoreUnavailable after that."""
    try:
        return await within(question, QUESTION_SECONDS)
    except TimeoutError:
        raise _LateResponse("PostgreSQL does not respond in time") from None


def _is_outage(error: LumaMemoryError) -> bool:
    return isinstance(error, StoreUnavailable) and not isinstance(
        error, (StoreContended, PartitionPaused, PartitionMismatch)
    )
