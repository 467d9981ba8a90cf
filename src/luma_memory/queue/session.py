"""A worker's presence: its row in memory_workers, its session lock, its LISTEN connection.

While the worker lives, one connection of its own holds an advisory lock. The lock is released with
the connection, and so with the process: a worker whose lock is free has ended.

Behind a transaction pooler there is no session to hold a lock or to listen in. The worker's row
then has no lock key: its jobs are taken back when their lease ends, and it finds new ones by
polling.

At the coordinator of a Citus cluster the worker listens, but holds no lock: the function that looks
for it runs on the node of the partition, where every worker would look dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta

import asyncpg

from luma_memory import __version__
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable
from luma_memory.postgres.database import Database
from luma_memory.postgres.errors import translated
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.queue.signal import Listener

_SQL = SqlFile(__name__)

HEARTBEAT_SECONDS = 5.0
# Pause between attempts to reconnect: without its lock, others declare this worker dead.
RECONNECT_SECONDS = 0.2
# Two missed heartbeats and a margin: after that, health no longer counts the worker.
ALIVE_WITHIN = timedelta(seconds=15)


def new_worker_id(kind: str = "worker") -> str:
    """Unique, so that a restarted process cannot finish its predecessor's jobs."""
    return f"{kind}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class WorkerSession:
    """`ports.jobs.WorkerPresence`; outlives any outage of the database.

    slots: how many jobs the worker runs at once; None if unknown. partitions: those of this server
    that the worker registers in, by default the database alone. required: whether `start` raises
    if the database does not respond; otherwise it connects as soon as it does.
    """

    def __init__(
        self,
        database: Database,
        worker_id: str,
        *,
        slots: int | None = None,
        partitions: Callable[[], Sequence[Database]] | None = None,
        required: bool = True,
    ) -> None:
        self._slots = slots
        self._partitions = partitions or (lambda: [database])
        self._registered: set[Database] = set()
        self._required = required
        self._worker_id = worker_id
        self._database = database
        self._running: Callable[[], int] = lambda: 0
        self._listener: Listener | None = None
        self._lock_key: int | None = None
        self._connection: asyncpg.Connection | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def worker_id(self) -> str:
        return self._worker_id

    async def start(
        self, *, running: Callable[[], int], on_signal: Callable[[], None] | None
    ) -> None:
        await self.begin(
            running=running,
            on_signal=None if on_signal is None else lambda _partitions: on_signal(),
        )

    async def begin(
        self, *, running: Callable[[], int], on_signal: Callable[[Sequence[int]], None] | None
    ) -> None:
        """`start`; on_signal: called with the partitions that have work, maybe none."""
        if self._task is None:
            self._running = running
            self._listener = Listener(on_signal) if on_signal is not None else None
            try:
                await self._connect()
                await self._heartbeat()
            except LumaMemoryError:
                if self._required:
                    raise
            self._task = asyncio.create_task(self._keep(), name="worker-session")

    async def stop(self) -> None:
        """Deregister if the database responds. Idempotent; harmless before start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(LumaMemoryError):
                await self._heartbeat(stopping=True)
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                # Not `asyncio.wait_for`, which may lose a cancellation (worker.claimer).
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._lost.wait()
                await asyncio.sleep(RECONNECT_SECONDS)
            with contextlib.suppress(LumaMemoryError):  # the next round tries again
                if self._connection is None or self._connection.is_closed():
                    await self._connect()
                await self._heartbeat()

    async def _connect(self) -> None:
        if await self._database.shares_sessions():
            self._lock_key = None
            return
        connection = await self._database.dedicated()
        self._lost.clear()
        # A new key each time: the server may still hold the previous lock for a dead connection.
        lock_key = secrets.randbits(62)
        connection.add_termination_listener(lambda _connection: self._lost.set())
        try:
            is_seen = not await self._database.coordinates_nodes()
            if is_seen:
                with translated():
                    await connection.execute(f"SELECT pg_advisory_lock({lock_key})")
            if self._listener is not None:
                await self._listener.attach(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection, self._lock_key = connection, lock_key if is_seen else None

    async def _heartbeat(self, *, stopping: bool = False) -> None:
        """In every partition. Raises the error of the first one that does not respond: the others
        of its server would not either. Where each has its own node, raises if none does."""
        failed: LumaMemoryError | None = None
        if await self._database.coordinates_nodes():
            # At once: a node that does not respond must not delay the heartbeat on the others.
            outcomes = await asyncio.gather(
                *(self._register(one, stopping=stopping) for one in self._partitions()),
                return_exceptions=True,
            )
            failures = [one for one in outcomes if isinstance(one, BaseException)]
            if failures and len(failures) == len(outcomes):
                raise failures[0]
            return
        for partition in self._partitions():
            try:
                await self._register(partition, stopping=stopping)
            except StoreUnavailable:
                raise
            except LumaMemoryError as error:  # of this partition alone
                failed = error
        if failed is not None:
            raise failed

    async def _register(self, partition: Database, *, stopping: bool) -> None:
        await partition.execute(
            _SQL["heartbeat"],
            self._worker_id,
            socket.gethostname(),
            os.getpid(),
            __version__,
            self._running(),
            self._lock_key,
            stopping,
        )
        if self._slots is not None and partition not in self._registered:
            await partition.execute(_SQL["store_slots"], self._worker_id, self._slots)
            self._registered.add(partition)


async def live_worker_count(database: Database) -> int:
    """Workers seen within ALIVE_WITHIN that have not stopped."""
    rows = await database.fetch(_SQL["live_workers"], ALIVE_WITHIN)
    return sum(1 for row in rows if row["id"].startswith("worker-"))
