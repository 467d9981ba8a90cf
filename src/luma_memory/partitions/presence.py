"""A process's presence in all partitions, and its notifications to workers of them.

Advisory locks and notifications belong to a database, so one session for each server is enough; the
process registers in every partition, for rescues look for its row there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from luma_memory.domain.scope import Scope
from luma_memory.partitions.places import Places
from luma_memory.partitions.queue import PartitionedQueue
from luma_memory.postgres.database import Database
from luma_memory.queue.session import WorkerSession
from luma_memory.queue.signal import Notifier


class PartitionedPresence:
    """`ports.jobs.WorkerPresence`. queue: is notified, and wakes the worker; None at the API."""

    def __init__(
        self,
        places: Places,
        worker_id: str,
        *,
        slots: int | None = None,
        queue: PartitionedQueue | None = None,
    ) -> None:
        self._places = places
        self._worker_id = worker_id
        self._slots = slots
        self._queue = queue
        self._sessions: dict[Database, WorkerSession] = {}
        self._running: Callable[[], int] = lambda: 0
        self._on_signal: Callable[[], None] | None = None
        self._is_started = False
        self._starting: asyncio.Task[None] | None = None

    @property
    def worker_id(self) -> str:
        return self._worker_id

    async def start(
        self, *, running: Callable[[], int], on_signal: Callable[[], None] | None
    ) -> None:
        """Raises if the home partition does not respond; connects to the others as they do."""
        if self._is_started:
            return
        self._is_started = True
        self._running, self._on_signal = running, on_signal
        if self._queue is not None and on_signal is not None:
            self._queue.wake = on_signal
        await self._start_missing()
        self._places.on_move(self._moved)

    async def stop(self) -> None:
        self._is_started = False
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        if self._queue is not None:
            await self._queue.release_late(self._worker_id)
        await asyncio.gather(*(session.stop() for session in self._sessions.values()))
        self._sessions.clear()

    def _moved(self) -> None:
        if self._is_started and (self._starting is None or self._starting.done()):
            self._starting = asyncio.create_task(self._start_missing(), name="presence")

    async def _start_missing(self) -> None:
        """A session for each server, also for one that a partition has been moved to."""
        while missing := [s for s, _ in self._places.servers() if s not in self._sessions]:
            server = missing[0]  # a partition may be moved to yet another one meanwhile
            session = self._sessions[server] = WorkerSession(
                server,
                self._worker_id,
                slots=self._slots,
                partitions=lambda server=server: self._places.on(server),  # type: ignore[misc]
                required=server is self._places.home.server,
            )
            heard = self._heard if self._on_signal is not None else None
            await session.begin(running=self._running, on_signal=heard)

    def _heard(self, partitions: Sequence[int]) -> None:
        if self._queue is not None:
            self._queue.heard(partitions)
        if self._on_signal is not None:
            self._on_signal()


class PartitionedSignal:
    """`ports.jobs.JobSignal`: names the partitions that have work, on their servers."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._notifiers: dict[Database, Notifier] = {}

    def notify(self, *scopes: Scope) -> None:
        if self._places.moves_users:
            scopes = ()  # the users may be elsewhere by now: all partitions are checked
        numbers = {self._places.number_of(scope) for scope in scopes}
        for server, places in self._places.servers():
            named = [place.number for place in places if place.number in numbers]
            if named or not scopes:
                if server not in self._notifiers:
                    self._notifiers[server] = Notifier(server)
                self._notifiers[server].notify_of(named)

    async def stop(self) -> None:
        """Idempotent."""
        await asyncio.gather(*(notifier.stop() for notifier in self._notifiers.values()))
