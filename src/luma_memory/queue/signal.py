"""Wake-up by LISTEN and NOTIFY: a hint that there may be work.

A transaction that notifies takes a database-wide lock when it commits, so no ingest transaction
does. Each process sends its notifications from one connection of its own, after the commit, at most
once per INTERVAL_SECONDS. The payload names the partitions that have work, where there are several.
A lost one costs the listener a poll interval.

A transaction pooler forwards NOTIFY like any statement, so a process behind one still wakes
workers that are directly connected; LISTEN does not work through it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

import asyncpg

from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.postgres.errors import translated

CHANNEL = "memory_jobs"
INTERVAL_SECONDS = 0.05
_RECONNECT_SECONDS = 1.0


class Notifier:
    """`ports.jobs.JobSignal` over a dedicated connection, opened with the first notification."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._requested = asyncio.Event()
        self._partitions: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    def notify(self, *_scopes: Scope) -> None:
        self.notify_of(())

    def notify_of(self, partitions: Iterable[int]) -> None:
        """There may be work in these partitions; in none in particular if there are none."""
        self._partitions.update(partitions)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="notifier")
        self._requested.set()

    async def stop(self) -> None:
        """Idempotent; stop before the first notification is harmless."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            try:
                connection = await self._database.dedicated()
            except LumaMemoryError:
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            try:
                await self._send_on(connection)
            except LumaMemoryError:
                self._requested.set()  # the notification was not sent
                await asyncio.sleep(_RECONNECT_SECONDS)
            finally:
                connection.terminate()

    async def _send_on(self, connection: asyncpg.Connection) -> None:
        while True:
            await self._requested.wait()
            self._requested.clear()
            named = ",".join(map(str, sorted(self._partitions)))
            self._partitions.clear()  # if this fails, workers find the jobs by polling
            payload = f", '{named}'" if named else ""
            with translated():
                await connection.execute(f"NOTIFY {CHANNEL}{payload}")
            await asyncio.sleep(INTERVAL_SECONDS)


class Listener:
    """Calls `on_signal` for every notification, on the connection of the worker's session."""

    def __init__(self, on_signal: Callable[[Sequence[int]], None]) -> None:
        """on_signal: called with the partitions that the notification names, maybe none."""
        self._on_signal = on_signal

    async def attach(self, connection: asyncpg.Connection) -> None:
        with translated():
            await connection.add_listener(CHANNEL, self._heard)

    def _heard(self, *details: object) -> None:
        payload = str(details[-1])
        self._on_signal([int(one) for one in payload.split(",") if one.isdecimal()])
