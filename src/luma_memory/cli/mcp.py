"""`mcp`: the Model Context Protocol over standard input and output."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Final

from pydantic import SecretStr

from luma_memory.cli.commands import examples
from luma_memory.cli.connection_file import LOCAL_USER, Connection
from luma_memory.cli.local_sessions import FIRST_START_SECONDS, RESTART_SECONDS, Sessions
from luma_memory.cli.options import DataDir
from luma_memory.client import AsyncMemoryClient, Retries
from luma_memory.domain.errors import SetupError
from luma_memory.mcp import is_installed
from luma_memory.settings import Settings, load_settings

# A host waits for each call, so a call is not retried for long: through the restart of a process
# that had a replacement ready.
_RETRIES: Final = Retries(attempts_max=6, seconds_max=1.6, first_pause_seconds=0.1)
_TIMEOUT_SECONDS: Final = 30.0


@examples(
    "luma-memory mcp",
    "MEMORY_API_URL=https://memory.example.com MEMORY_API_KEY=… luma-memory mcp",
)
def mcp(data_dir: DataDir = None) -> None:
    """Serve one agent host over standard input and output.

    With MEMORY_API_URL the tools work on that service, with the key MEMORY_API_KEY. Without it,
    they work on a service with an embedded database, which all sessions of one data directory
    share: the first session starts it in the background, and it stops five minutes after the last
    one has ended (MEMORY_MCP_IDLE_SECONDS).
    """
    if not is_installed():
        raise SetupError(
            "The Model Context Protocol needs another package: pip install 'luma-memory[mcp]'",
            code="extra_missing",
        )
    settings = load_settings(data_dir=data_dir)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    # The protocol's SDK is an optional dependency.
    stdio = import_module("luma_memory.mcp.stdio")
    link = _Remote(settings) if settings.api_url is not None else _Local(settings)
    is_local = settings.api_url is None
    try:
        await stdio.serve_stdio(
            settings,
            link.connect,
            default_user=settings.mcp_user_id or (LOCAL_USER if is_local else None),
        )
    finally:
        await link.close()


class _Remote:
    """The service of MEMORY_API_URL."""

    def __init__(self, settings: Settings) -> None:
        assert settings.api_url is not None
        self._client = _client(settings.api_url, settings.client_key)

    async def connect(self) -> AsyncMemoryClient:
        return self._client

    async def close(self) -> None:
        await self._client.aclose()


class _Local:
    """The shared service of the data directory; looked up again after it has ended."""

    def __init__(self, settings: Settings) -> None:
        self._sessions = Sessions(settings)
        self._sessions.enter()
        self._service: Connection | None = None
        self._clients: list[AsyncMemoryClient] = []  # the last one is of `_service`

    async def connect(self) -> AsyncMemoryClient:
        known = self._service
        found = await self._sessions.find(
            known=known, wait_seconds=FIRST_START_SECONDS if known is None else RESTART_SECONDS
        )
        if found != self._service:
            # Other calls may still wait for the earlier service, so its client stays open.
            self._service = found
            self._clients.append(_client(found.url, SecretStr(found.key)))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        self._sessions.leave()


def _client(url: str, key: SecretStr | None) -> AsyncMemoryClient:
    return AsyncMemoryClient(url, api_key=key, timeout_seconds=_TIMEOUT_SECONDS, retries=_RETRIES)
