"""Find out within two seconds that PostgreSQL no longer answers, whoever waits for it.

A time limit of each statement cannot tell a slow statement from a server that hangs: it would have
to be longer than the slowest statement. So a statement that takes longer than a moment makes this
process ask the server something that takes no time, on a connection of its own. If that is not
answered either, everything that waits for the server is cancelled. Later statements are tried,
and cancelled with the next probe that fails: the first statement that succeeds needs no probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Protocol, Self

import asyncpg

from luma_memory.concurrency.deadline import within

# A statement older than this raises the doubt; most take milliseconds.
DOUBT_SECONDS: Final = 0.4
# How long the server may take to answer the probe.
PROBE_SECONDS: Final = 1.0
# Between two probes, while statements are late and while the server is away.
_PAUSE_SECONDS: Final = 0.25
# The probe's time passes in steps: an event loop that is late by all of it has still read its
# sockets that often.
_STEPS: Final = 5
Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Cuttable(Protocol):
    """A connection."""

    def terminate(self) -> None:
        """Close it without a word to the server."""
        ...


class ServerAwayError(OSError):
    """The server does not answer: found out by a probe, not by this statement."""


class Liveness:
    """The statements that wait for the server, and whether it answers."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._waiting: dict[Watched, float] = {}  # oldest first
        self._task: asyncio.Task[None] | None = None
        self._is_away = False

    @property
    def is_away(self) -> bool:
        """Whether the server did not answer the last probe."""
        return self._is_away

    def watched(self) -> Watched:
        """A context manager around a wait for the server. Raises ServerAwayError."""
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
        """Runs while statements wait, and until a server that is away answers again."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting or self._is_away:
                oldest = next(iter(self._waiting.values()), loop.time())
                if not self._is_away and loop.time() - oldest < DOUBT_SECONDS:
                    await asyncio.sleep(max(oldest + DOUBT_SECONDS - loop.time(), 0.01))
                    continue
                self._is_away = not await self._answers()
                if self._is_away:
                    self._abort_all()
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._task = None

    async def _answers(self) -> bool:
        probe = asyncio.ensure_future(self._probe())
        for _ in range(_STEPS):
            try:
                await within(asyncio.shield(probe), PROBE_SECONDS / _STEPS)
            except TimeoutError:
                continue
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # Refused or cut: a server that is there. Statements learn that by themselves.
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
    """One wait for the server, ended with ServerAwayError when it turns out to be away."""

    __slots__ = ("_cancelling", "_is_aborted", "_liveness", "_task", "connection")

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self._is_aborted = False
        # Cut with the wait: what ends a statement or a transaction would wait for the server, too.
        self.connection: Cuttable | None = None

    def __enter__(self) -> Self:
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
            raise ServerAwayError("PostgreSQL does not answer") from error

    def abort(self) -> None:
        self._is_aborted = True
        if self.connection is not None:
            self.connection.terminate()
        self._task.cancel()
