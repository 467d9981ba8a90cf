"""Around every request: an id, one event, and an answer when something breaks."""

from __future__ import annotations

import re
import secrets
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luma_memory.api.problems import internal_problem, too_large_problem
from luma_memory.telemetry.events import Emit, RequestHandled
from luma_memory.telemetry.logs import Stopwatch, log_failure

HEADER: Final = b"x-request-id"
_ACCEPTABLE: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestContext:
    """ASGI middleware, outermost. A client's own X-Request-ID is kept where it is harmless."""

    def __init__(self, app: ASGIApp, *, emit: Emit) -> None:
        self._app = app
        self._emit = emit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
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
            log_failure("A request met our own bug", error)
            if status == 0:
                await internal_problem(request_id)(scope, receive, send_with_id)
        finally:
            path = getattr(scope.get("route"), "path", "unmatched")
            self._emit(RequestHandled(scope["method"], path, status, watch.elapsed_ms))


def _is_plain_refusal(message: Message) -> bool:
    """The framework refuses a declared length over the limit itself, in plain text."""
    plain = any(
        name == b"content-type" and value.startswith(b"text/plain")
        for name, value in message["headers"]
    )
    return message["status"] == 413 and plain


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == HEADER and _ACCEPTABLE.fullmatch(value):
            return bytes(value).decode()
    return None
