"""Standard input and output: one session with the host that started this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from mcp.server.stdio import stdio_server

from luma_memory.client import AsyncMemoryClient
from luma_memory.mcp.client_memory import ClientMemory
from luma_memory.mcp.server import Options, build_server
from luma_memory.settings import Settings


async def serve_stdio(
    settings: Settings,
    connect: Callable[[], Awaitable[AsyncMemoryClient]],
    *,
    default_user: str | None,
) -> None:
    """Serve until standard input ends. Standard output carries the protocol only.

    connect: an open client of the service. Called for each tool call, so that the session can list
    its tools while the service still starts.
    """
    memory = ClientMemory(connect, default_user=default_user)
    server = build_server(Options.of(settings), lambda _ctx: memory)
    async with stdio_server() as (read_stream, write_stream):
        starting = asyncio.ensure_future(_prepare(connect))
        try:
            await server.run(read_stream, write_stream, server.create_initialization_options())
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)


async def _prepare(connect: Callable[[], Awaitable[AsyncMemoryClient]]) -> None:
    """Let the service start before the first call; a failure is reported by the call."""
    with contextlib.suppress(Exception):
        await connect()
