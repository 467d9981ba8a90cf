"""The interface of the embedded server: start, stop, and which process stops it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from luma_memory.concurrency.file_lock import FileLock, is_locked
from luma_memory.domain.errors import SetupError
from luma_memory.postgres.embedded.account import Account, let_pass, server_account
from luma_memory.postgres.embedded.cluster import check_cluster, create_cluster
from luma_memory.postgres.embedded.faults import described_in_one_sentence
from luma_memory.postgres.embedded.layout import DATABASE, PORT, SUPERUSER, Layout
from luma_memory.postgres.embedded.programs import Programs, programs_of
from luma_memory.postgres.embedded.server import START_SECONDS, Server

DEFAULT_MAJOR = 18
# Another process may start a server, recover it, or stop it before this process gets the lock.
_CHANGE_LOCK_SECONDS = START_SECONDS + 60.0
# The owner writes its process id right after taking the lock.
_OWNER_PID_SECONDS = 1.0
_POLL_SECONDS = 0.02


def server_runs(data_dir: Path) -> bool:
    """Whether the server of a data directory runs; it may be starting or stopping.

    Raises SetupError if the directory cannot be read.
    """
    layout = Layout(Path(data_dir).expanduser().resolve())
    with described_in_one_sentence(layout.root):
        return is_locked(layout.server_lock)


class EmbeddedPostgres:
    """A PostgreSQL server on a data directory, shared with other processes that hold it.

    major: 16 or 18, the installed versions.
    exclusive: be the only owner (`luma-memory up`); other processes may still share it.
    durable: False only for temporary clusters; a power failure then loses the cluster.
    stop_grace_seconds: for an orderly stop, before an immediate one.

    Calls block (a fresh directory takes seconds) and are not for several threads at once.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        major: int = DEFAULT_MAJOR,
        exclusive: bool = False,
        durable: bool = True,
        stop_grace_seconds: float = 10.0,
    ) -> None:
        self._layout = Layout(Path(data_dir).expanduser().resolve())
        self._major = major
        self._exclusive = exclusive
        self._durable = durable
        self._stop_grace_seconds = stop_grace_seconds
        self._owner = FileLock(self._layout.owner_lock)
        self._holder = FileLock(self._layout.holders_lock)
        self._server: Server | None = None
        self._dsn = ""

    def start(self) -> str:
        """Start or join the server; the DSN of its database, for asyncpg and libpq.

        Idempotent. The data directory is created if missing. Raises SetupError with code
        data_dir_in_use, data_dir_wrong_major, data_dir_disk_full, data_dir_read_only,
        data_dir_not_yours, data_dir_not_a_directory, data_dir_not_a_cluster, data_dir_busy,
        embedded_postgres_missing or embedded_postgres_failed; no process is then left running that
        was not running before.
        """
        if self._server is None:
            with described_in_one_sentence(self._layout.root):
                self._join()
        return self._dsn

    def stop(self) -> None:
        """Release the server; the last holder stops it and waits for its end. Idempotent.

        In a forked child the parent's lock is unaffected. Raises SetupError.
        """
        server, self._server = self._server, None
        if server is None:
            return
        try:
            with described_in_one_sentence(self._layout.root), self._changing():
                self._stop_if_last(server)
        finally:
            self._holder.release()
            self._stop_owning()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _join(self) -> None:
        account = server_account()
        # Checked before anything is written: a foreign directory stays unchanged.
        check_cluster(self._layout, major=self._major, owner_uid=account.uid)
        programs = programs_of(self._major, account)
        _prepare_root(self._layout.root, account)
        try:
            if self._exclusive:
                self._become_owner()
            with self._changing() as change_lock:
                self._server = self._join_alone(programs, change_lock)
        except BaseException:
            self._stop_owning()
            raise

    def _join_alone(self, programs: Programs, change_lock: FileLock) -> Server:
        server = Server(self._layout, programs, self._durable)
        if not self._holder.acquire(shared=True):
            raise RuntimeError("the holders' lock was taken without the change lock")
        try:
            self._ensure_cluster(programs, change_lock)
            socket_folder = server.ensure_running()
            server.ensure_database(socket_folder)
        except BaseException:
            self._stop_if_last(server)
            raise
        self._dsn = _dsn(socket_folder)
        return server

    def _ensure_cluster(self, programs: Programs, change_lock: FileLock) -> None:
        owner_uid = programs.account.uid
        if not check_cluster(self._layout, major=self._major, owner_uid=owner_uid):
            create_cluster(
                self._layout,
                programs,
                major=self._major,
                durable=self._durable,
                keep_open=change_lock.fd,
            )

    def _stop_if_last(self, server: Server) -> None:
        self._holder.release()
        alone = FileLock(self._layout.holders_lock)
        if alone.acquire():
            try:
                server.stop(grace_seconds=self._stop_grace_seconds)
            finally:
                alone.release()

    def _become_owner(self) -> None:
        if not self._owner.acquire():
            raise SetupError(
                f"data directory {self._layout.root} is already in use by `luma-memory up`,"
                f" process {_owner_pid(self._layout.owner_lock)}; stop that one or choose another"
                " --data-dir",
                code="data_dir_in_use",
            )
        self._owner.write(str(os.getpid()))

    def _stop_owning(self) -> None:
        try:
            if self._owner.is_mine:
                self._owner.write("")  # the next owner must not be mistaken for this process
        finally:
            self._owner.release()

    @contextmanager
    def _changing(self) -> Iterator[FileLock]:
        lock = FileLock(self._layout.change_lock)
        if not lock.acquire(wait_seconds=_CHANGE_LOCK_SECONDS):
            raise SetupError(
                f"data directory {self._layout.root} is being changed by another process for more"
                f" than {_CHANGE_LOCK_SECONDS:.0f} s: end that process",
                code="data_dir_busy",
            )
        try:
            yield lock
        finally:
            lock.release()


def _prepare_root(root: Path, account: Account) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    let_pass(account, root)


def _owner_pid(path: Path) -> str:
    deadline = time.monotonic() + _OWNER_PID_SECONDS
    while not (pid := path.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return pid or "unknown"


def _dsn(socket_folder: Path) -> str:
    # The port is given because clients would otherwise read it from PGPORT.
    host = quote(str(socket_folder), safe="/")
    return f"postgresql://{SUPERUSER}@/{DATABASE}?host={host}&port={PORT}"
