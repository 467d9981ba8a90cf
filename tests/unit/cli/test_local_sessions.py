"""A session's search for the service of its data directory, with a service that is restarted."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.machine_load import within

from luma_memory.cli.connection_file import CONNECTION_FILE, SERVICE_LOCK, Connection
from luma_memory.cli.local_sessions import Sessions
from luma_memory.concurrency.file_lock import FileLock
from luma_memory.domain.errors import UnavailableError
from luma_memory.settings import load_settings


class CountedStarts(Sessions):
    """Starts nothing; the test is the service."""

    starts = 0

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        process = subprocess.Popen(["true"])
        process.wait()
        return process


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[CountedStarts]:
    found = CountedStarts(load_settings(data_dir=tmp_path))
    found.enter()
    yield found
    found.leave()


async def listener(folder: Path, *, listed: bool = True) -> tuple[asyncio.Server, Connection]:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = Connection(f"http://127.0.0.1:{port}", "key", 1)
    if listed:
        (folder / CONNECTION_FILE).write_text(json.dumps(connection._asdict()))
    return server, connection


async def test_a_killed_service_is_used_while_it_outlives_its_supervisor(
    tmp_path: Path, sessions: CountedStarts, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, old = await listener(tmp_path)
    for seconds in ("LINGER_SECONDS", "_CONNECT_SECONDS"):  # on a busy machine
        monkeypatch.setattr(f"luma_memory.cli.local_sessions.{seconds}", 600.0)
    async with server:  # the service lock is free
        for _ in range(3):
            assert await sessions.find(known=old, wait_seconds=0.0) == old
            await asyncio.sleep(0)
        assert sessions.starts == 1
        lock = FileLock(tmp_path / SERVICE_LOCK)
        assert lock.acquire(wait_seconds=within(2))
        replacement, new = await listener(tmp_path)
        async with replacement:
            assert await sessions.find(known=old, wait_seconds=0.0) == new
        lock.release()
        # Later, another program may listen on the port.
        assert await sessions.find(known=old, wait_seconds=0.0) == old
        monkeypatch.setattr("luma_memory.cli.local_sessions.LINGER_SECONDS", 0.0)
        with pytest.raises(UnavailableError, match="is starting"):
            await sessions.find(known=old, wait_seconds=0.0)


async def test_calls_during_a_start_fail_in_time_and_start_nothing_more(
    tmp_path: Path, sessions: CountedStarts
) -> None:
    server, old = await listener(tmp_path)
    server.close()
    await server.wait_closed()
    for _ in range(3):
        with pytest.raises(UnavailableError) as caught:
            await sessions.find(known=old, wait_seconds=0.01)
        assert caught.value.code == "service_starting"
    assert sessions.starts == 1


async def test_a_call_waits_for_the_restart_of_an_api_whose_supervisor_lives(
    tmp_path: Path, sessions: CountedStarts
) -> None:
    lock = FileLock(tmp_path / SERVICE_LOCK)
    assert lock.acquire()
    waiting = asyncio.create_task(sessions.find(known=None, wait_seconds=within(20)))
    await asyncio.sleep(0)
    server, connection = await listener(tmp_path)
    async with server:
        assert await waiting == connection
    assert sessions.starts == 0
    lock.release()
