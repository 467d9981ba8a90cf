"""Detect within two seconds that PostgreSQL no longer responds, for all waiting statements.

A time limit per statement cannot distinguish a slow statement from a server that hangs: it would
have to be longer than the slowest statement. So when a statement takes longer than a moment, this
process sends a trivial query on a separate connection. If that gets no response either, all waiting
statements are cancelled, and later ones refused at once until a probe succeeds: requests that queue
behind a statement would otherwise wait for one probe after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Protocol, Self

import asyncpg

from luma_memory.concurrency.deadline import within

# A statement older than this triggers a probe; most take milliseconds.
DOUBT_SECONDS: Final = 0.3
# Time limit of the probe: the slowest connection between two continents responds in half of it.
PROBE_SECONDS: Final = 0.8
# Between two probes, while statements are late and while the server is away.
_PAUSE_SECONDS: Final = 0.25
# The probe's time passes in steps: an event loop that is late by all of it has still read its
# sockets that often.
_STEPS: Final = 5
# A step that took this many times its length says more about this machine than about the server;
# as many steps as there are may be repeated for it.
_LATE: Final = 1.5
Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Cuttable(Protocol):
    """A connection."""

    def terminate(self) -> None:
        """Close it without notifying the server."""
        ...


class ServerAwayError(OSError):
    """A probe, not this statement, found that the server does not respond."""


class Liveness:
    """The statements that wait for the server, and whether it responds."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._waiting: dict[Watched, float] = {}  # oldest first
        self._task: asyncio.Task[None] | None = None
        self._is_away = False

    @property
    def is_away(self) -> bool:
        """Whether the last probe got no response."""
        return self._is_away

    def watched(self) -> Watched:
        """A context manager around a wait for the server. Raises ServerAwayError.

        At once while the last probe got no response.
        """
        return Watched(self)

    async def open(self) -> None:
        """Connect ahead, so that the first probe is one round trip. Raises as `connect`."""
        if self._connection is None:
            self._connection = await self._connect()

    async def close(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._drop_connection()

    def begin(self, statement: Watched) -> None:
        self._waiting[statement] = asyncio.get_running_loop().time()
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="database-liveness")

    def end(self, statement: Watched) -> None:
        self._waiting.pop(statement, None)

    async def _watch(self) -> None:
        """Runs while statements wait, and until an unavailable server responds again."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting or self._is_away:
                oldest = next(iter(self._waiting.values()), loop.time())
                if not self._is_away and loop.time() - oldest < DOUBT_SECONDS:
                    await asyncio.sleep(max(oldest + DOUBT_SECONDS - loop.time(), 0.01))
                    continue
                self._is_away = not await self._responds()
                if self._is_away:
                    self._abort_all()
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._task = None

    async def _responds(self) -> bool:
        probe = asyncio.ensure_future(self._probe())
        loop, step_seconds = asyncio.get_running_loop(), PROBE_SECONDS / _STEPS
        passed = repeated = 0
        while passed < _STEPS:
            started = loop.time()
            try:
                await within(asyncio.shield(probe), step_seconds)
            except TimeoutError:
                if loop.time() - started > _LATE * step_seconds and repeated < _STEPS:
                    repeated += 1
                else:
                    passed += 1
                continue
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # Refused or broken: the server runs. Statements get the same error themselves.
                self._drop_connection()
            return True
        probe.cancel()
        self._drop_connection()
        return False

    async def _probe(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        await self._connection.execute("SELECT")

    def _abort_all(self) -> None:
        waiting, self._waiting = list(self._waiting), {}
        for statement in waiting:
            statement.abort()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class Watched:
    """One wait for the server; ends with ServerAwayError if the server is unavailable."""

    __slots__ = ("_cancelling", "_is_aborted", "_liveness", "_task", "connection")

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self._is_aborted = False
        # Aborted as well: ending a statement or transaction would also wait for the server.
        self.connection: Cuttable | None = None

    def __enter__(self) -> Self:
        if self._liveness.is_away:
            raise ServerAwayError("PostgreSQL does not respond")
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._liveness.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._liveness.end(self)
        if (
            self._is_aborted
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise ServerAwayError("PostgreSQL does not respond") from error

    def abort(self) -> None:
        self._is_aborted = True
        if self.connection is not None:
            self.connection.terminate()
        self._task.cancel()
