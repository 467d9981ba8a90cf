"""How much is admitted at once: beyond that, an immediate 503 instead of a place in a queue.

What takes long for reasons outside this process must not use up the places of everything else:
requests that may wait for a model provider are counted apart from those that do not, and a request
whose body is still arriving holds no place at all.
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
# Share of a body that is processed as a stream: its longest line, twice.
STREAM_BYTES: Final = 2 * LINE_BYTES_MAX
RETRY_AFTER_SECONDS: Final = 1
# Bodies that are arriving, of all callers and of one; each is an open connection.
ARRIVING_MAX: Final = 2_048
ARRIVING_MAX_OF_CALLER: Final = 512
# A streamed body slower than this, over all the time it was waited for, is given up.
STREAM_BYTES_PER_SECOND_MIN: Final = 1_000
_BUSY: Final = "This process is at its limit of concurrent requests; try again"


class Admission:
    """ASGI middleware: bounds requests in progress, their bodies, and how long a body may take.

    requests_max: in progress at once, of those that may wait for a provider and of the others each.
    waits: whether a request may wait for a provider. always: paths that are served at any load.
    streamed: how paths end whose bodies are processed as they arrive: of such a body only the
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
        """Reserve that many more bytes; False when the limit would be exceeded."""
        if self._body_bytes + count > BODY_BYTES_MAX:
            return False
        self._body_bytes += count
        return True


class _Places:
    """How many requests of one kind are in progress."""

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
    """How many bodies are arriving, and of whom."""

    def __init__(self) -> None:
        self._all = 0
        self._of_caller: Counter[Hashable] = Counter()

    def begin(self, caller: Hashable) -> bool:
        """Whether one more may be waited for."""
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
    """The body of one request as it arrives; the request has its place while it does not wait."""

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
        self.bytes = size  # what this request holds of it

    async def receive(self) -> Message:
        if self._whole:  # what comes now is that the client is gone
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
        """The request is over."""
        if self._has_place:
            self._has_place = False
            self._places.give_back()

    async def _next(self) -> Message:
        """The next piece. While it is waited for, the request's place is free for others."""
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
        # A stream that was begun is not broken off for want of a place.
        if self._places.are_full and not self._is_streamed:
            raise _refusal()
        self._places.take()
        self._has_place = True
        return message

    def _check_rate(self) -> None:
        """Only once it was waited for as long as other bodies may take in all."""
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
        # The server's parser lets nothing but digits through.
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
