"""A whole service on this machine: starts, supervises and stops database, API and workers.

start: database (embedded or given) → schema → API and workers as children → ready
       The children import meanwhile; they get the database's address when it is there.
stop:  SIGTERM to the children, a grace period, SIGKILL; then the embedded database

Used by `up`, `demo`, `eval`, the benchmarks and the acceptance tests.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil

from luma_memory.bootstrap.database import (
    database_address,
    embedded_database_ended,
    migrate_database,
)
from luma_memory.bootstrap.prepared_start import PREPARE_OPTION, sent_environment
from luma_memory.cli.child import Child, LineSink
from luma_memory.cli.environment import python_arguments, settings_environment
from luma_memory.cli.options import reachable_host
from luma_memory.cli.servers import API_MODULE, WORKER_MODULE
from luma_memory.domain.errors import LumaMemoryError, SetupError
from luma_memory.protocol.base_path import BASE_PATH
from luma_memory.settings import Settings, load_settings, variable_name

READY_PATH = f"{BASE_PATH}/health/ready"
# The first start on a machine builds the local model, which can take most of a minute.
START_SECONDS_MAX = 180.0
# The API waits 10 s for open requests and a worker 5 s for its jobs before they disconnect.
STOP_GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.05
_DATABASE_CHECK_SECONDS = 1.0
# After a failed start, for example because the disk is full.
_DATABASE_RETRY_SECONDS = 10.0
_RESPONSE_SECONDS = 2.0
# A child that is killed more often than this within the time is not restarted.
_KILLS_MAX = 5
_KILLS_SECONDS = 60.0
_SPARE_CHECK_SECONDS = 1.0
API = "api"


def _discard(_name: str, _line: str) -> None:
    """A sink that drops every line."""


class Stack:
    """Database, API and workers with the same settings. Start it once; `stop` is idempotent.

    exclusive: refuse a data directory that another stack uses. spare: keep a process that has
    imported everything, which replaces an API that is killed within a second; it takes the memory
    of an idle API.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int = 1,
        exclusive: bool = False,
        spare: bool = False,
        on_line: LineSink = _discard,
    ) -> None:
        self.settings = settings
        self.children: dict[str, Child] = {}
        self._prepared: dict[str, Child] = {}  # by the names they will have
        self._preparing = asyncio.Lock()
        self._has_spare = spare
        self.database_url = ""  # of the database in use; may contain a password
        self.port = settings.port
        # A disabled worker exits at once, which would be reported as a crash.
        self._workers = workers if settings.worker_enabled else 0
        self._exclusive = exclusive
        self._on_line = on_line
        self._stopping = False
        self._kills: list[float] = []  # times of recent kills
        self._resources = AsyncExitStack()

    @property
    def base_url(self) -> str:
        """The API's base URL once it is started: http://127.0.0.1:PORT."""
        return f"http://{reachable_host(self.settings.host)}:{self.port}"

    async def start(self) -> None:
        """Return when the API is ready. Raises SetupError after stopping everything again."""
        try:
            names = [API, *(self._worker_name(n) for n in range(self._workers))]
            for name in names:
                await self._prepare(name)
            await self._open_database()
            for name in names:
                await self._start_child(name)
            await self.ready()
        except BaseException:
            await self.stop()
            raise

    async def ready(self) -> None:
        """Wait until the API reports that it is ready. Raises SetupError with its last lines."""
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._until_ready()
        except TimeoutError:
            raise SetupError(self.children[API].exit_report(), code="start_failed") from None

    def check(self) -> None:
        """Raises SetupError with the last lines of a child that has exited by itself."""
        if self._stopping:
            return
        for child in self.children.values():
            if child.exit_code is not None:
                raise SetupError(child.exit_report(), code="process_ended")

    async def watch(self) -> None:
        """Supervise everything; raises like `check` once a child has exited for good.

        Restarts what was killed: the embedded database (also after it stopped on a full disk), and
        children unless they are killed repeatedly. A child that exits by itself is not restarted:
        it would fail again for the same reason.
        """
        supervision = asyncio.create_task(self._supervise_database())
        sparing = asyncio.create_task(self._keep_spare())
        try:
            while not self._stopping:
                exits = [asyncio.create_task(child.wait()) for child in self.children.values()]
                try:
                    await asyncio.wait([*exits, supervision], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in exits:
                        task.cancel()
                    await asyncio.gather(*exits, return_exceptions=True)
                if supervision.done():
                    supervision.result()
                await self._restart_killed()
        finally:
            supervision.cancel()
            sparing.cancel()
            await asyncio.gather(supervision, sparing, return_exceptions=True)

    async def restart(self, name: str) -> None:
        """Restart a child, the API on its previous port; see `ready`."""
        await self._prepare(name)
        await self.children[name].stop(grace_seconds=STOP_GRACE_SECONDS)
        await self._start_child(name)

    def kill(self) -> None:
        """Kill the children; `stop` still has to be called."""
        for child in self._all():
            child.signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Stop the children, then the database. Idempotent; harmless before start."""
        self._stopping = True
        await asyncio.shield(asyncio.create_task(self._stop()))

    async def _stop(self) -> None:
        await asyncio.gather(
            *(child.stop(grace_seconds=STOP_GRACE_SECONDS) for child in self._all())
        )
        await self._resources.aclose()

    async def _open_database(self) -> None:
        address = database_address(self.settings, exclusive=self._exclusive)
        opening = asyncio.ensure_future(self._resources.enter_async_context(address))
        try:
            self.database_url = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A half-started server cannot be stopped: wait until it is up, then `stop` stops it.
            await asyncio.wait([opening])
            raise
        await migrate_database(self.settings, self.database_url)

    async def _supervise_database(self) -> None:
        while True:
            await asyncio.sleep(_DATABASE_CHECK_SECONDS)
            try:
                if embedded_database_ended(self.settings):
                    self._on_line("database", "PostgreSQL has exited, restarting it")
                    await self._restart_database()
            except SetupError as error:
                self._on_line("database", str(error))
                await asyncio.sleep(_DATABASE_RETRY_SECONDS)

    async def _restart_database(self) -> None:
        async def join_and_leave() -> None:
            async with database_address(self.settings):
                pass  # the reference taken by `start` keeps the server running

        restart = asyncio.create_task(join_and_leave())
        try:
            await asyncio.shield(restart)
        except asyncio.CancelledError:
            await asyncio.wait([restart])  # a half-started server would outlive this process
            raise

    async def _restart_killed(self) -> None:
        for name, child in list(self.children.items()):
            if child.exit_code is None or self._stopping:
                continue
            now = time.monotonic()
            self._kills = [at for at in self._kills if at > now - _KILLS_SECONDS]
            if child.exit_code >= 0 or len(self._kills) == _KILLS_MAX:
                self.check()
            self._kills.append(now)
            self._on_line(name, f"{name} {child.exit_reason}, restarting it")
            await self.restart(name)

    async def _prepare(self, name: str) -> None:
        """Start a process that imports and then waits for `_start_child`, unless one waits."""
        async with self._preparing:
            if self._waits(name):
                return
            starting = asyncio.create_task(self._start_waiting(name))
            try:
                await asyncio.shield(starting)
            finally:  # also if cancelled: a half-started process could not be stopped
                self._prepared[name] = await starting

    def _waits(self, name: str) -> bool:
        """Whether a prepared process waits."""
        prepared = self._prepared.get(name)
        return prepared is not None and prepared.exit_code is None

    async def _start_waiting(self, name: str) -> Child:
        module = API_MODULE if name == API else WORKER_MODULE
        return await Child.start(
            name,
            [*python_arguments(module), PREPARE_OPTION],
            settings_environment(self.settings, stop_with_parent=True),
            self._on_line,
        )

    async def _start_child(self, name: str) -> None:
        await self._prepare(name)
        child = self._prepared.pop(name)
        given = {"database_url": self.database_url, "port": str(self.port)}
        child.send(sent_environment({variable_name(key): value for key, value in given.items()}))
        self.children[name] = child

    async def _keep_spare(self) -> None:
        """Prepare the next API whenever the present one is ready."""
        async with httpx2.AsyncClient(trust_env=False, timeout=_RESPONSE_SECONDS) as client:
            while self._has_spare:
                # A spare that waits needs no look at the service: nearly always.
                if not self._waits(API) and await self._is_ready(client):
                    await self._prepare(API)
                await asyncio.sleep(_SPARE_CHECK_SECONDS)

    def _all(self) -> list[Child]:
        return [*self.children.values(), *self._prepared.values()]

    async def _until_ready(self) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=_RESPONSE_SECONDS) as client:
            while not await self._is_ready(client):
                self.check()
                await asyncio.sleep(_POLL_SECONDS)

    async def _is_ready(self, client: httpx2.AsyncClient) -> bool:
        # Read the port from the process: another service may listen on the configured one.
        port = listening_port(self.children[API].pid)
        if port is None:
            return False
        self.port = port
        try:
            return (await client.get(self.base_url + READY_PATH)).status_code == 200
        except httpx2.TransportError:
            return False

    def _worker_name(self, index: int) -> str:
        return "worker" if self._workers == 1 else f"worker-{index + 1}"


@asynccontextmanager
async def running_stack(
    *,
    data_dir: Path,
    workers: int = 1,
    on_line: LineSink = _discard,
    **overrides: Any,
) -> AsyncIterator[Stack]:
    """A ready stack on an embedded database; DATABASE_URL is ignored.

    overrides: fields of Settings; host and port default to 127.0.0.1 and a free port. Raises
    SetupError, also instead of an error of the body that was caused by the exit of a child.
    """
    overrides = {"host": "127.0.0.1", "port": 0, "data_dir": data_dir} | overrides
    settings = load_settings(**overrides).model_copy(update={"database_url": None})
    stack = Stack(settings, workers=workers, exclusive=True, on_line=on_line)
    await stack.start()
    try:
        yield stack
    except LumaMemoryError:
        stack.check()
        raise
    finally:
        await stack.stop()


def listening_port(pid: int) -> int | None:
    """The TCP port a process listens on, or None."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return None
    ports = (entry.laddr.port for entry in connections if entry.status == psutil.CONN_LISTEN)
    return next(ports, None)
