"""A primary and its standby: two PostgreSQL servers that stream, for tests and benchmarks.

Both are the programs of the embedded database, so this runs wherever that does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg
import psutil

from luma_memory.postgres.embedded.account import Account, let_pass, server_account
from luma_memory.postgres.embedded.programs import Programs, programs_of
from luma_memory.postgres.replica import is_conflict

_USER: Final = "postgres"
_DATABASE: Final = "luma_memory"
_COMMAND_SECONDS: Final = 300.0
_SETTINGS: Final = (
    *("listen_addresses=", "wal_level=replica", "max_wal_senders=8", "max_connections=80"),
    *("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_prepared_transactions=0"),
    # A killed walsender is noticed, and replay is not delayed for reads that conflict with it.
    *("wal_sender_timeout=5s", "max_standby_streaming_delay=500ms", "jit=off"),
    *("wal_retrieve_retry_interval=100ms", "timezone=UTC"),
)


class Server:
    """One of the two servers."""

    def __init__(self, programs: Programs, folder: Path, socket_folder: Path, port: int) -> None:
        self._programs = programs
        self.folder = folder
        self._socket_folder = socket_folder
        self._port = port

    def dsn(self, database: str = _DATABASE) -> str:
        host = quote(str(self._socket_folder), safe="/")
        return f"postgresql://{_USER}@/{database}?host={host}&port={self._port}"

    def start(self) -> None:
        """Return when it accepts connections."""
        settings = [*_SETTINGS, f"port={self._port}"]
        settings.append(f"unix_socket_directories={self._socket_folder}")
        self._control("start", "-o", " ".join(f"-c {setting}" for setting in settings))

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def promote(self) -> None:
        self._control("promote")

    def kill(self) -> None:
        """SIGKILL of all of its processes."""
        processes = self._processes()
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Its processes neither run nor refuse anything."""
        processes = self._processes()
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        return bool(self._processes())

    def processor_seconds(self) -> float:
        """User and system time of the server and of its processes that still run."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(one.user + one.system for one in times)

    def _processes(self) -> list[psutil.Process]:
        try:
            pid = int((self.folder / "postmaster.pid").read_text().split()[0])
            server = psutil.Process(pid)
            return [server, *server.children(recursive=True)]
        except (FileNotFoundError, psutil.NoSuchProcess):
            return []

    def _control(self, action: str, *options: str) -> None:
        log = self.folder.parent / f"{self.folder.name}.log"
        arguments = ["-D", str(self.folder), "-w", "-t", "120", "-l", str(log), *options, action]
        with Path(os.devnull).open("w") as silent:  # the server keeps it open
            done = self._programs.run(
                self._programs.command("pg_ctl", *arguments),
                timeout_seconds=_COMMAND_SECONDS,
                output=silent.fileno(),
            )
        assert done.returncode == 0, log.read_text() if log.exists() else action


class Streaming:
    """A primary with a standby."""

    def __init__(self, primary: Server, standby: Server) -> None:
        self.primary = primary
        self.standby = standby

    async def pause_replay(self) -> None:
        """What is written from now on is not shown by the standby."""
        await self._on_standby("SELECT pg_wal_replay_pause()")
        async with asyncio.timeout(_COMMAND_SECONDS):
            while await self._on_standby("SELECT pg_get_wal_replay_pause_state()") != "paused":  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def resume_replay(self) -> None:
        await self._on_standby("SELECT pg_wal_replay_resume()")

    async def caught_up(self) -> None:
        """Wait until the standby shows what is committed on the primary now."""
        connection = await asyncpg.connect(self.primary.dsn())
        try:
            written = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        finally:
            await connection.close()
        question = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
        async with asyncio.timeout(_COMMAND_SECONDS):
            while not await self._on_standby(question):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.02)

    async def _on_standby(self, question: str) -> object:
        # A statement that reads rows the primary has removed is cancelled, or its connection
        # closed; repeated, it reads what is there now.
        async with asyncio.timeout(_COMMAND_SECONDS):
            while True:
                connection = await asyncpg.connect(self.standby.dsn())
                try:
                    return await connection.fetchval(question)
                except asyncpg.PostgresError as error:
                    if not is_conflict(error):
                        raise
                finally:
                    await connection.close()


@asynccontextmanager
async def streaming(major: int) -> AsyncIterator[Streaming]:
    """Both started, the standby streaming; removed afterwards."""
    account = server_account()
    programs = programs_of(major, account)
    folder = Path(tempfile.mkdtemp(prefix="luma-standby-"))
    _prepare(folder, account)
    primary = Server(programs, folder / "primary", folder, 5432)
    standby = Server(programs, folder / "standby", folder, 5433)
    try:
        await asyncio.to_thread(_create, programs, primary, standby, folder)
        yield Streaming(primary, standby)
    finally:
        for server in (standby, primary):
            await asyncio.to_thread(server.kill)
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(folder: Path, account: Account) -> None:
    account.own(folder)
    let_pass(account, folder.parent)


def _create(programs: Programs, primary: Server, standby: Server, folder: Path) -> None:
    _run(
        programs,
        *("initdb", "--pgdata", str(primary.folder), "--username", _USER, "--no-sync"),
        *("--encoding=UTF8", "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject"),
    )
    primary.start()
    _run(programs, "createdb", "-h", str(folder), "-p", "5432", "-U", _USER, _DATABASE)
    _run(
        programs,
        *("pg_basebackup", "-D", str(standby.folder), "-h", str(folder), "-p", "5432"),
        *("-U", _USER, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
    )
    standby.start()


def _run(programs: Programs, program: str, *arguments: str) -> None:
    command = programs.command(program, *arguments)
    done = programs.run(command, timeout_seconds=_COMMAND_SECONDS)
    assert done.returncode == 0, done.stdout
