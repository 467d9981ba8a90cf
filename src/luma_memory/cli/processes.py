"""A whole service on this machine: database, API and workers, started, watched and stopped.

start: database (embedded or given) → schema → API and workers as children → ready
stop:  SIGTERM to the children, a grace, SIGKILL; then the database, if it is ours

Used by `up`, `demo` and `eval`, by the benchmarks and by the acceptance tests.
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
from luma_memory.cli.child import Child, LineSink
from luma_memory.cli.environment import python_arguments, settings_environment
from luma_memory.cli.options import reachable_host
from luma_memory.cli.servers import API_MODULE, WORKER_MODULE
from luma_memory.domain.errors import LumaMemoryError, SetupError
from luma_memory.protocol.base_path import BASE_PATH
from luma_memory.settings import Settings, load_settings

READY_PATH = f"{BASE_PATH}/health/ready"
# The first start on a machine builds the local model; a slow one takes most of a minute.
START_SECONDS_MAX = 180.0
# The API gives open requests 10 s and a worker its jobs 5 s; both then close their connections.
STOP_GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.05
_DATABASE_CHECK_SECONDS = 1.0
# After a start that failed, of a full disk for example.
_DATABASE_RETRY_SECONDS = 10.0
_ANSWER_SECONDS = 2.0
# More kills than this within the time are no accident.
_KILLS_MAX = 5
_KILLS_SECONDS = 60.0
API = "api"


def _discard(_name: str, _line: str) -> None:
    """A sink for who does not want to read along."""


class Stack:
    """Database, API and workers of one set of settings. Start it once; stop is idempotent.

    exclusive: refuse a data directory on which another one is running.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int = 1,
        exclusive: bool = False,
        on_line: LineSink = _discard,
    ) -> None:
        self.settings = settings
        self.children: dict[str, Child] = {}
        self.database_url = ""  # of the database that is used; it may hold a password
        self.port = settings.port
        # A worker that is switched off ends at once, which would be taken for its death.
        self._workers = workers if settings.worker_enabled else 0
        self._exclusive = exclusive
        self._on_line = on_line
        self._stopping = False
        self._kills: list[float] = []  # when children were killed lately
        self._resources = AsyncExitStack()

    @property
    def base_url(self) -> str:
        """Where the API answers, once started: http://127.0.0.1:PORT."""
        return f"http://{reachable_host(self.settings.host)}:{self.port}"

    async def start(self) -> None:
        """Return when the API is ready. Raises SetupError; nothing is then left running."""
        try:
            await self._open_database()
            names = [API, *(self._worker_name(n) for n in range(self._workers))]
            for name in names:
                await self._start_child(name)
            await self.ready()
        except BaseException:
            await self.stop()
            raise

    async def ready(self) -> None:
        """Wait until the API answers that it is ready. Raises SetupError with its last lines."""
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._until_ready()
        except TimeoutError:
            raise SetupError(self.children[API].obituary(), code="start_failed") from None

    def check(self) -> None:
        """Raises SetupError when a child has ended by itself, naming it and its last lines."""
        if self._stopping:
            return
        for child in self.children.values():
            if child.exit_code is not None:
                raise SetupError(child.obituary(), code="process_ended")

    async def watch(self) -> None:
        """Keep everything running; raises as `check` once a child has ended for good.

        What was killed is started again, nobody else would do it: an embedded database (also one
        that stopped itself on a full disk), and children, unless they are killed again and again. A
        child that ended by itself has said why, and would say it again.
        """
        keeping = asyncio.create_task(self._keep_database())
        try:
            while not self._stopping:
                ends = [asyncio.create_task(child.ended()) for child in self.children.values()]
                try:
                    await asyncio.wait([*ends, keeping], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in ends:
                        task.cancel()
                    await asyncio.gather(*ends, return_exceptions=True)
                if keeping.done():
                    keeping.result()
                await self._revive_children()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def restart(self, name: str) -> None:
        """Start a child anew that has ended, the API on its old port; see `ready`."""
        await self.children[name].stop(grace_seconds=STOP_GRACE_SECONDS)
        await self._start_child(name)

    def kill(self) -> None:
        """End the children at once; `stop` still has to be called."""
        for child in self.children.values():
            child.signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Stop the children, then the database. Idempotent; harmless before start."""
        self._stopping = True
        await asyncio.shield(asyncio.create_task(self._stop()))

    async def _stop(self) -> None:
        await asyncio.gather(
            *(child.stop(grace_seconds=STOP_GRACE_SECONDS) for child in self.children.values())
        )
        await self._resources.aclose()

    async def _open_database(self) -> None:
        address = database_address(self.settings, exclusive=self._exclusive)
        opening = asyncio.ensure_future(self._resources.enter_async_context(address))
        try:
            self.database_url = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A server that is half started cannot be stopped: let it come up, `stop` follows.
            await asyncio.wait([opening])
            raise
        await migrate_database(self.settings, self.database_url)

    async def _keep_database(self) -> None:
        while True:
            await asyncio.sleep(_DATABASE_CHECK_SECONDS)
            try:
                if embedded_database_ended(self.settings):
                    self._on_line("database", "PostgreSQL has ended, starting it again")
                    await self._revive_database()
            except SetupError as error:
                self._on_line("database", str(error))
                await asyncio.sleep(_DATABASE_RETRY_SECONDS)

    async def _revive_database(self) -> None:
        async def join_and_leave() -> None:
            async with database_address(self.settings):
                pass  # our hold since `start` keeps the server running

        reviving = asyncio.create_task(join_and_leave())
        try:
            await asyncio.shield(reviving)
        except asyncio.CancelledError:
            await asyncio.wait([reviving])  # a server left half started would outlive us
            raise

    async def _revive_children(self) -> None:
        for name, child in list(self.children.items()):
            if child.exit_code is None or self._stopping:
                continue
            now = time.monotonic()
            self._kills = [at for at in self._kills if at > now - _KILLS_SECONDS]
            if child.exit_code >= 0 or len(self._kills) == _KILLS_MAX:
                self.check()
            self._kills.append(now)
            self._on_line(name, f"{name} {child.fate}, starting it again")
            await self.restart(name)

    async def _start_child(self, name: str) -> None:
        environment = settings_environment(
            self.settings,
            database_url=self.database_url,
            port=self.port,
            stop_with_parent=True,
        )
        module = API_MODULE if name == API else WORKER_MODULE
        self.children[name] = await Child.start(
            name, python_arguments(module), environment, self._on_line
        )

    async def _until_ready(self) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=_ANSWER_SECONDS) as client:
            while not await self._is_ready(client):
                self.check()
                await asyncio.sleep(_POLL_SECONDS)

    async def _is_ready(self, client: httpx2.AsyncClient) -> bool:
        # The port is taken from the process itself: another service may answer on the wanted one.
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
    """A stack of its own on an embedded database, whatever DATABASE_URL says, ready to be asked.

    overrides: fields of Settings; host and port are by default 127.0.0.1 and a free one.
    Raises SetupError; also in place of an error of the body that a dead child explains.
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
    """The TCP port a process listens on; None while there is none."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return None
    ports = (entry.laddr.port for entry in connections if entry.status == psutil.CONN_LISTEN)
    return next(ports, None)
