"""Limits concurrent requests: beyond the limit, an immediate 503 instead of a queue.

Requests that are slow for reasons outside this process must not exhaust the limit for others:
requests that may wait for a model provider are counted separately, and a request
whose body is still arriving is not counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luma_memory.api.lines import LINE_BYTES_MAX
from luma_memory.api.problems import problem_response, request_id_of

# Total size of the bodies being read or processed.
BODY_BYTES_MAX: Final = 256 * 1024 * 1024
# Counted size of a body that is processed as a stream: twice its longest line.
STREAM_BYTES: Final = 2 * LINE_BYTES_MAX
RETRY_AFTER_SECONDS: Final = 1
# Arriving bodies, of all callers and per caller; each is an open connection.
ARRIVING_MAX: Final = 2_048
ARRIVING_MAX_OF_CALLER: Final = 512
# A streamed body that is slower than this, over all the time spent waiting for it, is rejected.
STREAM_BYTES_PER_SECOND_MIN: Final = 1_000
_BUSY: Final = "This process is at its limit of concurrent requests; try again"


class Admission:
    """ASGI middleware: bounds requests in progress, their bodies, and how long a body may take.

    requests_max: concurrent requests that may wait for a provider, and the same number of others.
    waits: whether a request may wait for a provider. always: paths that are served at any load.
    streamed: endings of paths whose bodies are processed as they arrive: of such a body only the
    current piece counts, each piece has its own time limit, and the whole a minimum rate.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        requests_max: int,
        body_seconds_max: float,
        always: Collection[str],
        streamed: str,
        waits: Callable[[Scope], bool] = lambda _scope: False,
    ) -> None:
        self._app = app
        self._waits = waits
        self._own, self._waiting = _Places(requests_max), _Places(requests_max)
        self.arriving = _Arriving()
        self._body_seconds_max = body_seconds_max
        self._always = frozenset(always)
        self._streamed = streamed
        self._body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._always:
            await self._app(scope, receive, send)
            return
        is_streamed = scope["path"].endswith(self._streamed)
        size = STREAM_BYTES if is_streamed else _declared_length(scope)
        places = self._waiting if self._waits(scope) else self._own
        if places.are_full or not self.take(size):
            await _busy(scope)(scope, receive, send)
            return
        body = _Body(self, scope, receive, places, size, is_streamed=is_streamed)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.end()
            self._body_bytes -= body.bytes

    @property
    def body_seconds_max(self) -> float:
        return self._body_seconds_max

    def take(self, count: int) -> bool:
        """Reserve this many more bytes; False if the limit would be exceeded."""
        if self._body_bytes + count > BODY_BYTES_MAX:
            return False
        self._body_bytes += count
        return True


class _Places:
    """Counts the requests of one kind in progress."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._taken = 0

    @property
    def are_full(self) -> bool:
        return self._taken >= self._places_max

    def take(self) -> None:
        self._taken += 1

    def give_back(self) -> None:
        self._taken -= 1


class _Arriving:
    """Counts the arriving bodies, in total and per caller."""

    def __init__(self) -> None:
        self._all = 0
        self._of_caller: Counter[Hashable] = Counter()

    def begin(self, caller: Hashable) -> bool:
        """Whether another body may arrive."""
        if self._all >= ARRIVING_MAX or self._of_caller[caller] >= ARRIVING_MAX_OF_CALLER:
            return False
        self._all += 1
        self._of_caller[caller] += 1
        return True

    def end(self, caller: Hashable) -> None:
        self._all -= 1
        self._of_caller[caller] -= 1
        if not self._of_caller[caller]:
            del self._of_caller[caller]


class _Body:
    """One request's body as it arrives; while waiting for it, the request is not counted."""

    def __init__(
        self,
        admission: Admission,
        scope: Scope,
        receive: Receive,
        places: _Places,
        size: int,
        *,
        is_streamed: bool,
    ) -> None:
        self._admission = admission
        self._scope = scope
        self._receive = receive
        self._places = places
        self._is_streamed = is_streamed
        self._has_place = True
        places.take()
        self._arrived = 0
        self._waited_seconds = 0.0
        self._whole = False
        self._until = self._from_now()
        self.bytes = size  # the bytes this request has reserved

    async def receive(self) -> Message:
        if self._whole:  # the next message reports that the client disconnected
            return await self._receive()
        message = await self._next()
        self._whole = not message.get("more_body", False)
        self._arrived += len(message.get("body", b""))
        if self._is_streamed:
            self._check_rate()
            return message
        if self._arrived > self.bytes:
            if not self._admission.take(self._arrived - self.bytes):
                raise _refusal()
            self.bytes = self._arrived
        return message

    def end(self) -> None:
        """Release everything at the end of the request."""
        if self._has_place:
            self._has_place = False
            self._places.give_back()

    async def _next(self) -> Message:
        """The next piece. The request is not counted while it waits for it."""
        # Set by `Authentication`, which comes before the body is read.
        caller = self._scope.get("state", {}).get("caller")
        if not self._admission.arriving.begin(caller):
            raise _refusal()
        self.end()
        began = asyncio.get_running_loop().time()
        if self._is_streamed:
            self._until = self._from_now()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self._admission.arriving.end(caller)
            self._waited_seconds += asyncio.get_running_loop().time() - began
        # A stream that has started is not rejected because of the limit.
        if self._places.are_full and not self._is_streamed:
            raise _refusal()
        self._places.take()
        self._has_place = True
        return message

    def _check_rate(self) -> None:
        """Checked only after the total time that other bodies may take."""
        waited = self._waited_seconds
        is_slow = self._arrived < STREAM_BYTES_PER_SECOND_MIN * waited
        if not self._whole and is_slow and waited > self._admission.body_seconds_max:
            raise _too_slow()

    def _from_now(self) -> float:
        return asyncio.get_running_loop().time() + self._admission.body_seconds_max


def _refusal() -> HTTPException:
    return HTTPException(503, _BUSY, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _too_slow() -> HTTPException:
    return HTTPException(408, "The body did not arrive in time", headers={"Connection": "close"})


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        # The server's parser accepts only digits.
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
