"""A Redis of the benchmark's own, and a server that hangs like a broken one."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.figures import WrongResultError

_START_SECONDS_MAX = 20.0


@asynccontextmanager
async def running_redis() -> AsyncIterator[str]:
    """The URL of a server that keeps nothing on a disk; stopped at the end."""
    beside_us = str(Path(sys.executable).parent)
    program = shutil.which("redis-server", path=beside_us) or shutil.which("redis-server")
    if program is None:
        raise WrongResultError("redis-server is not installed: apt-get install redis-server")
    port = _free_port()
    folder = tempfile.mkdtemp(prefix="luma-memory-bench-redis-")
    process = await asyncio.create_subprocess_exec(
        program,
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", folder),
        *("--save", "", "--appendonly", "no"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"redis://127.0.0.1:{port}/0"
        await _responding(url)
        yield url
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def hanging_redis() -> AsyncIterator[str]:
    """The URL of a server that accepts connections and never answers."""
    waiting: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: waiting.append(writer), "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in waiting:
            writer.close()


async def _responding(url: str) -> None:
    client = Redis.from_url(url)
    try:
        async with asyncio.timeout(_START_SECONDS_MAX):
            while True:
                try:
                    await client.ping()
                except (RedisError, OSError):
                    await asyncio.sleep(0.01)
                else:
                    return
    finally:
        await client.aclose()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
