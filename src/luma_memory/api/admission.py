"""Admission control: requests above the limits are rejected immediately instead of queued."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luma_memory.api.lines import LINE_BYTES_MAX
from luma_memory.api.problems import problem_response, request_id_of

# Total size of the bodies being read or processed.
BODY_BYTES_MAX: Final = 256 * 1024 * 1024
# Share of a body that is processed as a stream: its longest line, twice.
STREAM_BYTES: Final = 2 * LINE_BYTES_MAX
RETRY_AFTER_SECONDS: Final = 1
_BUSY: Final = "This process is at its limit of concurrent requests; try again"


class Admission:
    """ASGI middleware: limits concurrent requests, their total body size and each body's duration.

    always: paths served regardless of load. streamed: suffix of paths whose bodies are processed as
    they arrive: only the current piece of such a body counts, and the time limit holds per piece.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        requests_max: int,
        body_seconds_max: float,
        always: Collection[str],
        streamed: str,
    ) -> None:
        self._app = app
        self._requests_max = requests_max
        self._body_seconds_max = body_seconds_max
        self._always = frozenset(always)
        self._streamed = streamed
        self._requests = 0
        self._body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._always:
            await self._app(scope, receive, send)
            return
        is_streamed = scope["path"].endswith(self._streamed)
        reserved = STREAM_BYTES if is_streamed else _declared_length(scope)
        body = _Body(self, receive, reserved, is_streamed=is_streamed)
        if self._requests >= self._requests_max or not self.take(body.bytes):
            await _busy(scope)(scope, receive, send)
            return
        self._requests += 1
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._requests -= 1
            self._body_bytes -= body.bytes

    @property
    def body_seconds_max(self) -> float:
        return self._body_seconds_max

    def take(self, count: int) -> bool:
        """Reserve that many bytes; False if the limit does not allow it."""
        if self._body_bytes + count > BODY_BYTES_MAX:
            return False
        self._body_bytes += count
        return True


class _Body:
    """The body of one request as it arrives."""

    def __init__(
        self, admission: Admission, receive: Receive, reserved: int, *, is_streamed: bool
    ) -> None:
        self._admission = admission
        self._receive = receive
        self._is_streamed = is_streamed
        self._arrived = 0
        self._whole = False
        self._until = self._from_now()
        self.bytes = reserved  # reserved for this request

    async def receive(self) -> Message:
        if self._whole:  # the application waits for the client to disconnect
            return await self._receive()
        if self._is_streamed:
            self._until = self._from_now()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408, "The body did not arrive in time", headers={"Connection": "close"}
            ) from None
        self._whole = not message.get("more_body", False)
        if self._is_streamed:
            return message
        self._arrived += len(message.get("body", b""))
        if self._arrived > self.bytes:
            if not self._admission.take(self._arrived - self.bytes):
                raise HTTPException(503, _BUSY, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
            self.bytes = self._arrived
        return message

    def _from_now(self) -> float:
        return asyncio.get_running_loop().time() + self._admission.body_seconds_max


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        # The server's parser accepts digits only.
        if name == b"content-length":
            return min(int(value), BODY_BYTES_MAX)
    return 0


def _busy(scope: Scope) -> ASGIApp:
    return problem_response(
        503,
        "overloaded",
        _BUSY,
        request_id=request_id_of(scope),
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )
