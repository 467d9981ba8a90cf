"""Streamable HTTP inside the API process: stateless, one JSON response per request."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.mcp import MCP_PATH
from luma_memory.mcp.http_errors import JSON_MEDIA_TYPE, error_message
from luma_memory.mcp.server import Context, Options, build_server
from luma_memory.mcp.service_memory import ServiceMemory
from luma_memory.protocol.problem import Problem

# As the largest body of a REST route that takes one conversation.
BODY_BYTES_MAX: Final = 32_000_000


class McpEndpoint:
    """ASGI application for one path. `Authentication` stores the caller before it is called.

    Enter `run` before the first request.
    """

    path = MCP_PATH  # of the route, for metrics and traces

    def __init__(self, service: Service) -> None:
        def memory_of(ctx: Context) -> ServiceMemory:
            assert ctx.request is not None  # every request of this transport has one
            caller: Caller = ctx.request.scope["state"]["caller"]
            return ServiceMemory(service, caller)

        self._manager = StreamableHTTPSessionManager(
            app=build_server(Options.of(service.settings), memory_of),
            json_response=True,
            stateless=True,
            max_request_body_size=BODY_BYTES_MAX,
        )

    def run(self) -> AbstractAsyncContextManager[None]:
        """Serves requests until it is left. Once per endpoint."""
        return self._manager.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        # Spaces around a value are no part of it (RFC 9110); the HTTP parser keeps trailing ones,
        # and the SDK compares values with the body's.
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        # A stateless server has no stream to open and no session to end.
        handle = self._manager.asgi_app if scope["method"] == "POST" else _not_allowed()
        await handle(scope, receive, send)


def _not_allowed() -> Response:
    problem = Problem(
        title="Method Not Allowed",
        status=405,
        detail="Send requests of the Model Context Protocol with POST",
        code="method_not_allowed",
    )
    return Response(
        error_message(problem),
        status_code=405,
        media_type=JSON_MEDIA_TYPE,
        headers={"Allow": "POST"},
    )
