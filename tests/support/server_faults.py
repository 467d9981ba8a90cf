"""A PostgreSQL server that is stopped, started, hung and starved beneath a running service."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from luma_memory.cli.processes import Stack
from luma_memory.postgres.embedded import EmbeddedPostgres
from luma_memory.postgres.embedded.account import server_account
from luma_memory.postgres.embedded.layout import Layout
from luma_memory.postgres.embedded.postmaster import read_pid_file
from luma_memory.postgres.embedded.programs import programs_of
from luma_memory.postgres.embedded.server import Server
from luma_memory.settings import load_settings

_STOP_SECONDS = 60.0


class FaultyServer:
    """The server of a data directory of a test's own."""

    def __init__(self, data_dir: Path, *, major: int = 18) -> None:
        self.data_dir = data_dir
        self._embedded = EmbeddedPostgres(data_dir, major=major)
        self._programs = programs_of(major, server_account())
        self._layout = Layout(data_dir.resolve())
        self._server = Server(self._layout, self._programs, durable=True)

    def start(self) -> str:
        """For the first time; the address of its database."""
        return self._embedded.start()

    async def stop_hard(self) -> None:
        """`pg_ctl stop -m immediate`: nothing is written out, every connection is cut."""
        command = self._programs.command(
            "pg_ctl", "stop", "-m", "immediate", "-w", "-D", str(self._layout.cluster)
        )
        await asyncio.to_thread(self._programs.run, command, timeout_seconds=_STOP_SECONDS)

    async def kill(self) -> None:
        """kill -9 of all its processes: nothing is written out, unlogged tables end up empty."""
        killed = self._processes()
        for process in killed:
            process.kill()
        await asyncio.to_thread(psutil.wait_procs, killed, _STOP_SECONDS)

    async def start_again(self) -> None:
        """Returns when it has recovered and takes statements; only waits for that if it runs."""
        await asyncio.to_thread(self._server.ensure_running)

    def kill_backend(self, pid: int) -> None:
        """kill -9 of one of its processes: it cuts all connections and recovers by itself."""
        assert any(process.pid == pid for process in self._processes())
        psutil.Process(pid).kill()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Suspend all its processes: connections stay open, statements get no result."""
        stopped = self._processes()
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._embedded.stop()

    def _processes(self) -> list[psutil.Process]:
        found = read_pid_file(self._layout.pid_file)
        assert found is not None
        postmaster = psutil.Process(found.pid)
        # The postmaster first, so that it does not start further ones.
        return [postmaster, *postmaster.children(recursive=True)]


@asynccontextmanager
async def service_on(
    server: FaultyServer, *, workers: int, **overrides: object
) -> AsyncIterator[Stack]:
    """API and workers on that server, which only the test starts and stops."""
    dsn = await asyncio.to_thread(server.start)
    try:
        settings = load_settings(database_url=dsn, host="127.0.0.1", port=0, **overrides)
        stack = Stack(settings, workers=workers)
        await stack.start()
        try:
            yield stack
        finally:
            await stack.stop()
    finally:
        await asyncio.to_thread(server.close)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Not a byte is left on its file system."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb") as file:
            _write_until_full(file.fileno())
            yield
    finally:
        ballast.unlink()


def _write_until_full(fd: int) -> None:
    block_bytes = 1 << 20
    while block_bytes:
        try:
            os.write(fd, bytes(block_bytes))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            block_bytes //= 2


@contextmanager
def small_disk(size_mb: int) -> Iterator[Path | None]:
    """A file system of that size, or None where mounting one is not permitted."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield folder if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder)
