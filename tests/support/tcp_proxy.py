"""Between a client and a real server: answers come late, in pieces, or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Proxy:
    """What happens to the bytes the server sends."""

    port: int = 0
    # Seconds before each piece; called once per piece.
    delay: Callable[[], float] = field(default=lambda: 0.0)
    # Bytes of one piece at most; None passes on what came as it came.
    piece_bytes: int | None = None
    # How many of the next responses are lost: the connection breaks instead of each.
    responses_lost: int = 0
    connections: int = 0
    # Cleared: bytes neither pass nor are refused, in both directions and on new connections.
    flows: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def proxied(target: int | Path, *, seed: int = 1) -> AsyncIterator[Proxy]:
    """A proxy in front of a port or a Unix socket of this machine."""
    proxy = Proxy()
    proxy.flows.set()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.connections += 1
        await proxy.flows.wait()
        if isinstance(target, Path):
            back, forth = await asyncio.open_unix_connection(target)
        else:
            back, forth = await asyncio.open_connection("127.0.0.1", target)
        try:
            await asyncio.gather(_forth(reader, forth, proxy), _back(back, writer, proxy))
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two went away
        finally:
            for end in (writer, forth):
                end.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    random.seed(seed)
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def _forth(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, proxy: Proxy) -> None:
    while data := await reader.read(65536):
        await proxy.flows.wait()
        writer.write(data)
        await writer.drain()
    writer.close()


async def _back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, proxy: Proxy) -> None:
    while data := await reader.read(65536):
        await proxy.flows.wait()
        if proxy.responses_lost > 0:
            proxy.responses_lost -= 1
            raise ConnectionResetError("the answer is lost")
        size = proxy.piece_bytes or len(data)
        for start in range(0, len(data), size):
            if (seconds := proxy.delay()) > 0:
                await asyncio.sleep(seconds)
            writer.write(data[start : start + size])
            await writer.drain()
    writer.close()


@asynccontextmanager
async def hanging_server() -> AsyncIterator[int]:
    """The port of a server that accepts and never answers."""
    waiting: list[asyncio.StreamWriter] = []

    def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for writer in waiting:
            writer.close()
