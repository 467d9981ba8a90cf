"""Streamable HTTP inside the API process: stateless, one JSON response per request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import END_USER_CALLER, Caller
from luma_memory.domain.errors import PermissionMissing
from luma_memory.mcp import MCP_PATH
from luma_memory.mcp.http_errors import JSON_MEDIA_TYPE, error_message
from luma_memory.mcp.resource_metadata import ProtectedResource
from luma_memory.mcp.server import Context, Options, build_server
from luma_memory.mcp.service_memory import ServiceMemory
from luma_memory.protocol.problem import Problem

# As the largest body of a REST route that takes one conversation.
BODY_BYTES_MAX: Final = 32_000_000
_MISSING: Final = "missing_permission"


class McpEndpoint:
    """ASGI application for one path. `Authentication` stores the caller before it is called.

    resource: names the scopes that an end user's token lacks. Enter `run` before the first request.
    """

    path = MCP_PATH  # of the route, for metrics and traces

    def __init__(self, service: Service, resource: ProtectedResource | None) -> None:
        self._resource = resource

        def memory_of(ctx: Context) -> ServiceMemory:
            assert ctx.request is not None  # every request of this transport has one
            caller: Caller = ctx.request.scope["state"]["caller"]
            return ServiceMemory(service, caller)

        self._manager = StreamableHTTPSessionManager(
            app=build_server(Options.of(service.settings), memory_of, on_refusal=_remember),
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
        await handle(scope, receive, self._with_challenge(scope, receive, send))

    def _with_challenge(self, scope: Scope, receive: Receive, send: Send) -> Send:
        """Respond 403 instead, where a host can get a token with the missing scope."""
        is_replaced = False

        async def send_or_challenge(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start":
                challenged = self._challenged(scope)
                if challenged is not None:
                    is_replaced = True
                    await challenged(scope, receive, send)
            if not is_replaced:
                await send(message)

        return send_or_challenge

    def _challenged(self, scope: Scope) -> Response | None:
        error: PermissionMissing | None = scope["state"].get(_MISSING)
        caller: Caller = scope["state"]["caller"]
        if error is None or self._resource is None or caller.name != END_USER_CALLER:
            return None
        challenge = self._resource.scope_challenge(scope, caller, error)
        if challenge is None:
            return None
        problem = Problem(title="Forbidden", status=403, detail=str(error), code=error.code)
        return _refusal(problem, {"WWW-Authenticate": challenge})


def _remember(ctx: Context, error: PermissionMissing) -> None:
    assert ctx.request is not None
    ctx.request.scope["state"][_MISSING] = error


def _not_allowed() -> Response:
    problem = Problem(
        title="Method Not Allowed",
        status=405,
        detail="Send requests of the Model Context Protocol with POST",
        code="method_not_allowed",
    )
    return _refusal(problem, {"Allow": "POST"})


def _refusal(problem: Problem, headers: Mapping[str, str]) -> Response:
    return Response(
        error_message(problem),
        status_code=problem.status,
        media_type=JSON_MEDIA_TYPE,
        headers=headers,
    )
