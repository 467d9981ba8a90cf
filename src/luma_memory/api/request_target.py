"""Path and query: percent-encoded UTF-8, in which an escaped slash stays within its segment.

The framework decodes both before routing: `a%2Fb` would become two segments, so a user with that
name could be stored but never erased, and invalid UTF-8 would become the replacement character, so
different ids would become equal.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from luma_memory.api.problems import problem_response, request_id_of

# Represents a slash within a segment until routing is done. No decoded text can contain it.
_SLASH: Final = "\udc2f"


class RequestTarget:
    """ASGI middleware: decodes the path, and rejects what cannot be decoded exactly."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                _check_query(scope["query_string"])
                if b"%" in scope["raw_path"]:
                    scope["path"] = _path(scope["raw_path"])
            except UnicodeDecodeError:
                await _unreadable(scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def with_slashes(parameters: dict[str, Any]) -> dict[str, Any]:
    """A route's path parameters with their escaped slashes restored."""
    return {
        name: value.replace(_SLASH, "/") if isinstance(value, str) else value
        for name, value in parameters.items()
    }


def _check_query(query: bytes) -> None:
    if b"%" in query:
        unquote_to_bytes(query).decode()
    query.decode("ascii")  # raw bytes would be decoded as Latin-1


def _path(raw: bytes) -> str:
    segments = raw.split(b"/")
    return "/".join(unquote_to_bytes(part).decode().replace("/", _SLASH) for part in segments)


def _unreadable(scope: Scope) -> ASGIApp:
    return problem_response(
        400,
        "malformed_request",
        "Path and query must be percent-encoded UTF-8",
        request_id=request_id_of(scope),
    )
