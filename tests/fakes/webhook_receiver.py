"""A receiver of webhooks on a real loopback socket, which behaves as a test wants.

    async with WebhookReceiver() as receiver:
        ...  # a webhook with receiver.url
        await receiver.until(lambda: len(receiver.requests) >= 3)

A path of its own for each behavior: `receiver.path("/slow")`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web

RETRY_SECONDS = 120.0


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]  # lower-case names
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event


Behavior = Callable[[Received], Awaitable[web.StreamResponse]]


async def accepts(_received: Received) -> web.StreamResponse:
    return web.Response(status=204)


def responds(status: int, **headers: str) -> Behavior:
    """With this status, whatever comes."""

    async def respond(_received: Received) -> web.StreamResponse:
        return web.Response(status=status, headers=headers, text="no")

    return respond


async def hangs(_received: Received) -> web.StreamResponse:
    """Until the sender gives up."""
    await asyncio.Event().wait()
    raise AssertionError


class WebhookReceiver:
    """Keeps what arrives; `behaviors` by path, the others accept."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.behaviors: dict[str, Behavior] = {}
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == path]

    def ids(self, path: str = "/") -> set[str]:
        return {request.event_id for request in self.at(path)}

    async def until(self, is_reached: Callable[[], bool]) -> None:
        """Wait until requests made it so. Raises TimeoutError."""
        async with asyncio.timeout(RETRY_SECONDS):
            while not is_reached():
                self._changed.clear()
                await self._changed.wait()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(
            request.path,
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
        )
        self.requests.append(received)
        self._changed.set()
        return await self.behaviors.get(request.path, accepts)(received)


class Trap:
    """Listens and counts connections: what must not be connected to."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Self:
        # On every address of this machine, in both families where it has them.
        for host in ("0.0.0.0", "::"):
            with suppress(OSError):
                server = await asyncio.start_server(self._connected, host, self.port)
                self._servers.append(server)
                self.port = server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()
