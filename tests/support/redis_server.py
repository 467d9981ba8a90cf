"""Redis servers of a test's own: the package's in the environment, or one on the path."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

PROGRAM = shutil.which("redis-server", path=str(Path(sys.executable).parent)) or shutil.which(
    "redis-server"
)
_START_SECONDS_MAX = 20.0
_SLOTS = 16_384
# A node of a cluster listens at its port and at the one 10,000 above. Both lie below those that the
# system gives out.
_PORTS = (10_000, 22_000)
_CLUSTER_DISTANCE = 10_000


def skip_without_redis() -> None:
    """End a test that needs a server where none is installed."""
    if PROGRAM is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")


class RedisServer:
    """A server on a port of its own that can be stopped, frozen, restarted and starved."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self, *options: str) -> None:
        """Starts empty: nothing is ever written to a disk."""
        assert PROGRAM is not None
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
            *("--save", "", "--appendonly", "no", *options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        async with asyncio.timeout(_START_SECONDS_MAX), self.client() as client:
            while True:
                try:
                    await client.ping()
                except (RedisError, OSError):
                    await asyncio.sleep(0.01)
                else:
                    return

    async def stop(self) -> None:
        """At once; clients see their connections reset or closed."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            await process.wait()

    def freeze(self) -> None:
        """Connections are accepted by the kernel, and nothing is ever answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """A plain client, to look and to meddle with."""
        client = Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()


@asynccontextmanager
async def running_redis(*options: str) -> AsyncIterator[RedisServer]:
    """A started server, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(folder)
    try:
        await server.start(*options)
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder)


@asynccontextmanager
async def running_cluster(nodes: int) -> AsyncIterator[list[RedisServer]]:
    """Nodes that know each other, each with a part of the slots, in the order of the slots."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                running_redis("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            )
            for _ in range(nodes)
        ]
        bounds = [_SLOTS * n // nodes for n in range(nodes + 1)]
        for server, first, end in zip(servers, bounds, bounds[1:], strict=False):
            async with server.client() as client:
                await client.execute_command("CLUSTER", "ADDSLOTS", *range(first, end))
                await client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        for server in servers:
            await _until_complete(server)
        yield servers


async def _until_complete(server: RedisServer) -> None:
    async with asyncio.timeout(_START_SECONDS_MAX), server.client() as client:
        while True:
            if b"cluster_state:ok" in await client.execute_command("CLUSTER", "INFO"):
                return
            await asyncio.sleep(0.02)


def free_port() -> int:
    """A port without a listener; the one that a node of a cluster needs is free as well.

    It stays free until the test's server listens: the system gives no such port to connections and
    servers of others.
    """
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + _CLUSTER_DISTANCE))
            except OSError:
                continue
            return port
