"""Around every request: an id, one event, and a response if the application fails."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Sequence
from typing import Final

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luma_memory.api.problems import internal_problem, too_large_problem
from luma_memory.domain.errors import InvariantError
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit, RequestHandled
from luma_memory.telemetry.logs import Stopwatch, log_failure
from luma_memory.telemetry.requests import in_request

HEADER: Final = b"x-request-id"
_ACCEPTABLE: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """ASGI middleware, outermost. A client's X-Request-ID is kept if it is well-formed.

    routes: of the application, which name the requests that are refused before they reach one.
    untraced: paths without a span, polled every few seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        emit: Emit,
        routes: Sequence[BaseRoute],
        untraced: Collection[str] = (),
    ) -> None:
        self._app = app
        self._emit = emit
        self._routes = routes
        self._untraced = frozenset(untraced)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        with in_request(request_id):
            if not spans.is_on() or scope["path"] in self._untraced:
                await self._handle(scope, receive, send, request_id)
            else:
                with spans.span(scope["method"], kind="server", parent=_given_parent(scope)):
                    await self._handle(scope, receive, send, request_id)

    async def _handle(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        watch, status, is_replaced = Stopwatch(), 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_replaced
            if is_replaced:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if _is_plain_refusal(message):
                    is_replaced = True
                    refusal = too_large_problem(request_id)
                    refusal.headers[HEADER.decode()] = request_id
                    await refusal(scope, receive, send)
                    return
                message["headers"] = [*message["headers"], (HEADER, request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            log_failure("A request failed with an internal error", error)
            if status == 0:
                await internal_problem(request_id)(scope, receive, send_with_id)
        finally:
            path = self._path_of(scope)
            if spans.is_on():
                _describe_span(scope["method"], path, status, request_id)
            self._emit(RequestHandled(scope["method"], path, status, watch.elapsed_ms))

    def _path_of(self, scope: Scope) -> str:
        """The path of the route with its parameters' names: a log and a metric have few of them."""
        route = scope.get("route")
        if route is None:
            matching = (one for one in self._routes if one.matches(scope)[0] is not Match.NONE)
            route = next(matching, None)
        path: str = getattr(route, "path", "unmatched")
        return path


def _is_plain_refusal(message: Message) -> bool:
    """FastAPI and the SDK of agents reject a body above the limit themselves, in plain text."""
    is_json = any(
        name == b"content-type" and b"json" in value for name, value in message["headers"]
    )
    return message["status"] == 413 and not is_json


def _describe_span(method: str, path: str, status: int, request_id: str) -> None:
    span = spans.current()
    span.rename(f"{method} {path}")
    span.set(
        {
            "http.request.method": method,
            "http.route": path,
            "http.response.status_code": status,
            "luma.request.id": request_id,
        }
    )
    if status >= 500:
        span.failed(InvariantError(f"HTTP {status}"))


def _given_parent(scope: Scope) -> str:
    """The client's trace (W3C Trace Context), or a new one."""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return bytes(value).decode("latin-1")
    return spans.NEW_TRACE


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == HEADER and _ACCEPTABLE.fullmatch(value):
            return bytes(value).decode()
    return None
