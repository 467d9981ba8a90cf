"""Starting, finding and stopping the server of a data directory. Call under the change lock."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from luma_memory.concurrency.file_lock import FileLock, is_locked
from luma_memory.domain.errors import SetupError
from luma_memory.postgres.embedded import faults
from luma_memory.postgres.embedded.layout import DATABASE, PORT, SUPERUSER, Layout
from luma_memory.postgres.embedded.postmaster import PidFile, may_serve, read_pid_file
from luma_memory.postgres.embedded.programs import Programs
from luma_memory.postgres.embedded.server_settings import server_arguments
from luma_memory.postgres.embedded.socket_folder import (
    choose_socket_folder,
    prepare_socket_folder,
    remove_stale_socket,
)

# A start takes a fraction of a second; recovery after a crash replays up to max_wal_size.
START_SECONDS = 180.0
# The postmaster itself kills processes that do not end within 5 s of an immediate stop.
_IMMEDIATE_STOP_SECONDS = 15.0
_LAUNCH_SECONDS = 30.0
_QUERY_SECONDS = 60.0
_POLL_SECONDS = 0.02
# Another process that tests the lock takes it for a moment.
_PROBE_SECONDS = 1.0
# Exit codes of pg_isready: accepting clients; starting, stopping or recovering.
_ACCEPTS, _REFUSES = 0, 1
_LOG_BYTES_MAX = 4 * 1024 * 1024
_LOG_TAIL_BYTES = 64 * 1024
# The shell exits at once, so that the server is not a child of this process: it survives it, and
# when killed leaves no zombie, whose pid would keep PostgreSQL from starting again.
_DETACHED = ("/bin/sh", "-c", '"$@" &', "sh")
_CREATE_DATABASE = f"""
SELECT 'CREATE DATABASE {DATABASE}'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec
"""  # noqa: S608 - a constant

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """The server of one data directory, whichever process started it."""

    layout: Layout
    programs: Programs
    durable: bool

    def ensure_running(self) -> Path:
        """Attach to the running server, or start one. Returns the validated folder of its socket.

        Raises SetupError, OSError or TimeoutExpired.
        """
        deadline = time.monotonic() + START_SECONDS
        found = self._await_ready(deadline)
        if found is None:
            log_start = self._launch()
            found = self._await_ready(deadline)
            if found is None:
                output = _tail(self.layout.log, log_start)
                raise faults.from_output(self.layout.root, "start", output)
        folder = found.socket_folder or choose_socket_folder(self.layout)
        prepare_socket_folder(folder, self.programs.account)
        return folder

    def ensure_database(self, socket_folder: Path) -> None:
        """Create the database if it is missing. Raises as `ensure_running`."""
        # Also for a running server: the process that started it may have been killed before this.
        options = ("-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1")
        where = ("-h", str(socket_folder), "-p", str(PORT), "-U", SUPERUSER, "-d", "postgres")
        result = self.programs.run(
            self.programs.command("psql", *options, *where),
            timeout_seconds=_QUERY_SECONDS,
            stdin=_CREATE_DATABASE,
        )
        if result.returncode != 0:
            raise faults.from_output(self.layout.root, "create the database", result.stdout)

    def stop(self, *, grace_seconds: float) -> None:
        """Stop and wait until no process of the server is left. A no-op if none runs.

        Open transactions are ended and data written out; processes that do not end within
        `grace_seconds` are killed, and the next start recovers from the WAL. Raises SetupError or
        OSError.
        """
        self._let_recover(grace_seconds)
        if self._signal_until_gone(signal.SIGINT, grace_seconds):
            return
        _log.warning(
            "PostgreSQL did not stop in time; stopping it at once, the next start recovers.",
            folder=str(self.layout.root),
            grace_seconds=grace_seconds,
        )
        if not self._signal_until_gone(signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS):
            raise SetupError(
                f"PostgreSQL in data directory {self.layout.root} does not stop",
                code="embedded_postgres_failed",
            )

    def _is_alive(self) -> bool:
        return is_locked(self.layout.server_lock)

    def _status(self, found: PidFile) -> int:
        """The exit code of `pg_isready`."""
        where = ("-h", str(found.socket_folder), "-p", str(PORT), "-t", "2")
        command = self.programs.command("pg_isready", "-q", *where)
        return self.programs.run(command, timeout_seconds=_QUERY_SECONDS).returncode

    def _let_recover(self, seconds: float) -> None:
        # A smart shutdown requested during crash recovery may never end in PostgreSQL 18.
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._is_alive():
            found = read_pid_file(self.layout.pid_file)
            if found is None or self._status(found) != _REFUSES:
                return
            time.sleep(_POLL_SECONDS)

    def _signal_until_gone(self, number: signal.Signals, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        # Read again each round: a server that is just starting writes its file a moment later.
        signalled: int | None = None
        while self._is_alive():
            found = read_pid_file(self.layout.pid_file)
            if found and found.pid != signalled and may_serve(found.pid, self.layout.cluster):
                _send(found.pid, number)
                signalled = found.pid
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _await_ready(self, deadline: float) -> PidFile | None:
        """The running server once it accepts connections; None if it ends or does not run."""
        while self._is_alive():
            found = read_pid_file(self.layout.pid_file)
            if found is not None and found.ready and self._status(found) == _ACCEPTS:
                return found
            if time.monotonic() >= deadline:
                raise SetupError(
                    f"PostgreSQL in data directory {self.layout.root} did not respond within"
                    f" {START_SECONDS:.0f} s: see {self.layout.log}",
                    code="embedded_postgres_failed",
                )
            time.sleep(_POLL_SECONDS)
        return None

    def _launch(self) -> int:
        """Start the server in the background; returns the size of its log before the start."""
        self._clear_rests()
        folder = choose_socket_folder(self.layout)
        prepare_socket_folder(folder, self.programs.account)
        remove_stale_socket(folder)
        arguments = server_arguments(folder, durable=self.durable)
        command = self.programs.command("postgres", "-D", str(self.layout.cluster), *arguments)
        server_lock = FileLock(self.layout.server_lock)
        if not server_lock.acquire(wait_seconds=_PROBE_SECONDS):
            raise RuntimeError("a server appeared under the change lock")
        log_fd, log_start = _open_log(self.layout.log)
        try:
            self.programs.run(
                [*_DETACHED, *command],
                timeout_seconds=_LAUNCH_SECONDS,
                output=log_fd,
                keep_open=(server_lock.fd,),
            )
        finally:
            os.close(log_fd)
            server_lock.close()  # from here on only the server's copy holds the lock
        return log_start

    def _clear_rests(self) -> None:
        """Remove the pid file of a server that no longer runs.

        Raises SetupError if a server that was started by other means runs on the cluster.
        """
        found = read_pid_file(self.layout.pid_file)
        if found is not None and may_serve(found.pid, self.layout.cluster):
            raise SetupError(
                f"data directory {self.layout.root} is already in use by a PostgreSQL server that"
                f" Luma Memory did not start, process {found.pid}; stop that one or choose another"
                " --data-dir",
                code="data_dir_in_use",
            )
        self.layout.pid_file.unlink(missing_ok=True)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has just ended


def _open_log(path: Path) -> tuple[int, int]:
    """Open for appending, after rotating a large log; one old log is kept."""
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return fd, os.fstat(fd).st_size


def _tail(path: Path, start: int) -> str:
    with path.open("rb") as log:
        log.seek(max(start, path.stat().st_size - _LOG_TAIL_BYTES))
        return log.read().decode(errors="replace")
