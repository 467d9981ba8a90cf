"""One session's access to the service that `luma-memory mcp` shares among sessions.

`connection file`  address and key of the ready service, readable by its user alone
`service lock`     held by the service from before it starts until its last process has ended
`start lock`       held by the session that starts the service; the others wait for it
`sessions lock`    held shared by each session; the service stops once it was free for a while

The kernel releases the locks of a process however it ends, so a session that is killed is not
counted, and a service that is killed is replaced by the next call. Its API outlives it for
`LINGER_SECONDS`, and open sessions use that until the new one is ready.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from luma_memory.bootstrap.private_files import open_private
from luma_memory.cli.connection_file import SERVICE_LOCK, Connection, running_service
from luma_memory.cli.environment import python_arguments, settings_environment
from luma_memory.concurrency.file_lock import FileLock, is_locked
from luma_memory.domain.errors import SetupError, UnavailableError
from luma_memory.settings import Settings

SERVICE_MODULE: Final = "luma_memory.cli.local_service"
SESSIONS_LOCK: Final = ".mcp-sessions"
_START_LOCK: Final = ".mcp-start"
_LOG_FILE: Final = "mcp-service.log"
_LOG_BYTES_MAX: Final = 4 * 1024 * 1024
# The first call of a session waits this long for the service to start; hosts usually give up after
# a minute.
FIRST_START_SECONDS: Final = 45.0
# Later calls wait this long for a service that restarts.
RESTART_SECONDS: Final = 1.5
# Several times as long as a replacement takes to start on a busy machine.
LINGER_SECONDS: Final = 60.0
# A service that checks whether it is idle holds the sessions' lock for a moment.
_ENTER_SECONDS_MAX: Final = 5.0
_POLL_SECONDS: Final = 0.1
_CONNECT_SECONDS: Final = 1.0
_PRIVATE_FOLDER: Final = 0o700


class Sessions:
    """This process as one of the sessions of a data directory.

    Enter before `find`, so that the service is not stopped meanwhile.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.data_folder
        self._folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        self._lock = FileLock(self._folder / SESSIONS_LOCK)
        self._finding: asyncio.Task[Connection] | None = None
        self._lost_at: float | None = None  # since when the known service is not ready

    def enter(self) -> None:
        """Raises SetupError if the data directory is unusable."""
        if not self._lock.acquire(shared=True, wait_seconds=_ENTER_SECONDS_MAX):
            raise SetupError(
                f"Cannot use the data directory {self._folder}", code="data_dir_locked"
            )

    def leave(self) -> None:
        """Idempotent."""
        if self._finding is not None:
            self._finding.cancel()
        self._lock.release()

    async def find(self, *, known: Connection | None, wait_seconds: float) -> Connection:
        """The running service, started if there is none.

        known: the one of the last call, used while it is being replaced, if it still serves.
        wait_seconds: of this call; a start continues after it. Raises UnavailableError (code
        service_starting) if none is ready by then, and SetupError with its last lines if it cannot
        start.
        """
        if (ready := await self._ready()) is not None:
            self._lost_at = None
            return ready
        finding = self._finding
        if finding is None or finding.cancelled():
            finding = self._finding = asyncio.create_task(self._found())
        if known is not None and await self._outlives(known):
            return known
        await asyncio.wait([finding], timeout=wait_seconds)
        if not finding.done():
            raise UnavailableError("The memory service is starting", code="service_starting")
        if self._finding is finding:
            self._finding = None
        return finding.result()

    async def _outlives(self, known: Connection) -> bool:
        """Whether the API of a service that was killed still serves."""
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        # Later, the port may be another program's.
        return now - self._lost_at < LINGER_SECONDS and await _accepts(known.url)

    async def _found(self) -> Connection:
        start_lock = FileLock(self._folder / _START_LOCK)
        started: subprocess.Popen[bytes] | None = None
        try:
            while (found := await self._ready()) is None:
                if started is not None and started.poll() not in (None, 0):
                    raise SetupError(_failure(self._folder), code="start_failed")
                if started is None and not self._runs() and start_lock.acquire():
                    started = self._start()
                await asyncio.sleep(_POLL_SECONDS)
            return found
        finally:
            start_lock.release()

    async def _ready(self) -> Connection | None:
        """The service of the connection file, if it runs and accepts connections."""
        found = running_service(self._folder)
        return found if found is not None and await _accepts(found.url) else None

    def _runs(self) -> bool:
        return is_locked(self._folder / SERVICE_LOCK)

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the service in a session of its own, so that it outlives this process."""
        say(f"starting a memory service in {self._folder} …")
        log = self._folder / _LOG_FILE
        mode = "ab" if log.exists() and log.stat().st_size < _LOG_BYTES_MAX else "wb"
        with open(log, mode, opener=open_private) as output:
            return subprocess.Popen(  # noqa: S603 - our own module
                python_arguments(SERVICE_MODULE),
                env=settings_environment(self._settings, data_dir=self._folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self._folder,
            )


async def _accepts(url: str) -> bool:
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError:
        return False
    writer.close()
    return True


def _failure(folder: Path) -> str:
    lines = _tail(folder / _LOG_FILE)
    return "The memory service cannot start; its last lines:" + "".join(
        f"\n  {line}" for line in lines
    )


def _tail(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-4:]


def say(text: str) -> None:
    """Report progress on standard error; standard output belongs to the protocol."""
    print(f"luma-memory: {text}", file=sys.stderr, flush=True)
