"""An HTTP proxy that renames what requests of the Model Context Protocol ask for.

The conformance program calls tools, resources and prompts by names of its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from aiohttp import web

# The request's parameters, changed in place.
Rename = Callable[[dict[str, Any]], None]
_OF_CONNECTION = {"host", "content-length", "connection", "transfer-encoding", "keep-alive"}


@asynccontextmanager
async def renaming_proxy(target: str, rename: Rename) -> AsyncIterator[str]:
    """The URL of a proxy in front of `target`."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:

        async def forward(request: web.Request) -> web.Response:
            headers = {
                name: value
                for name, value in request.headers.items()
                if name.lower() not in _OF_CONNECTION
            }
            content = await request.read()
            if request.method == "POST":
                content = _renamed(content, headers, rename)
            response = await http.request(request.method, target, content=content, headers=headers)
            kept = {
                name: value
                for name, value in response.headers.items()
                if name.lower() not in (*_OF_CONNECTION, "content-encoding", "content-type")
            }
            return web.Response(
                body=response.content,
                status=response.status_code,
                headers=kept,
                content_type=response.headers.get("content-type", "").partition(";")[0] or None,
            )

        app = web.Application()
        app.router.add_route("*", "/mcp", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}/mcp"
        finally:
            await runner.cleanup()


def _renamed(content: bytes, headers: dict[str, str], rename: Rename) -> bytes:
    document = json.loads(content)
    params = document.get("params")
    if isinstance(params, dict):
        rename(params)
        for name in headers:
            # The header repeats the name, and the server compares both.
            if name.lower() == "mcp-name":
                headers[name] = str(params.get("name") or params.get("uri"))
    return json.dumps(document).encode()
