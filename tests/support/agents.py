"""Agent hosts: the protocol's own client, over both transports."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

LEGACY, MODERN = "legacy", "2026-07-28"
VERSIONS = (MODERN, "2025-11-25")


@asynccontextmanager
async def over_http(
    base_url: str, *, key: str | None = None, mode: str = MODERN
) -> AsyncIterator[Client]:
    """A client of a running API."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30) as http,
        Client(streamable_http_client(f"{base_url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def over_stdio(
    environment: Mapping[str, str], *, mode: str = MODERN
) -> AsyncIterator[Client]:
    """A client of `luma-memory mcp` in a process of its own."""
    async with Client(stdio_client(stdio_parameters(environment)), mode=mode) as client:
        yield client


def stdio_parameters(environment: Mapping[str, str]) -> StdioServerParameters:
    base = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")}
    return StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "luma_memory.cli", "mcp"],
        env={**base, **environment},
    )


def local_environment(data_dir: Path) -> dict[str, str]:
    """Of a session with a service of its own, which stops soon after the last session."""
    return {"MEMORY_DATA_DIR": str(data_dir), "MEMORY_MCP_IDLE_SECONDS": "2"}


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured content of a call that succeeds."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def call_repeated(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """As a host that repeats a call while its error says that nothing is wrong with it."""
    while True:
        result = await client.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        if not result.is_error:
            assert isinstance(result.structured_content, dict)
            return result.structured_content
        assert result.meta is not None
        assert result.meta["luma-memory/error"]["retryable"], result.content


def plain_request(
    method: str, params: Mapping[str, Any], version: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Body and headers of one message over HTTP, as clients of that version send it."""
    sent = dict(params)
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": version,
        "Mcp-Method": method,
    }
    if "name" in params or "uri" in params:
        headers["Mcp-Name"] = str(params.get("name", params.get("uri")))
    if version == MODERN:
        sent["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientInfo": {"name": "host", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": sent}, headers


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """The code of a call that fails."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert result.is_error, result.structured_content
    assert result.meta is not None
    (text,) = result.content
    assert isinstance(text, TextContent)
    code = str(result.meta["luma-memory/error"]["code"])
    assert text.text.startswith(f"Error {code}: ")
    assert "Traceback" not in text.text
    return code
