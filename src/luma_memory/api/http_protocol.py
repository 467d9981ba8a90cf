"""The HTTP connection: limits on a request's head, and problem documents for malformed requests.

uvicorn alone responds to unparsable requests in plain text, and limits neither the size of a head
nor the time it takes to arrive.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from luma_memory.api.problems import problem_response

HEAD_BYTES_MAX: Final = 32_768
HEAD_SECONDS_MAX: Final = 10.0
# The rest of a body is discarded after the response, so that the client can read the response:
# closing the connection while the client sends would reset it. Beyond this size it is closed.
DISCARDED_BYTES_MAX: Final = 64_000_000
# A client that sends slowly would hold its connection forever: it is closed after this time, too.
DISCARDED_SECONDS_MAX: Final = 5.0
_REFUSALS: Final = {
    400: ("malformed_http", "This is not HTTP"),
    408: ("request_timeout", "The request's head did not arrive in time"),
    431: ("head_too_large", f"The request's head has more than {HEAD_BYTES_MAX:,} bytes"),
}


class BoundedHttpProtocol(HttpToolsProtocol):
    """A connection that limits the size and duration of each head."""

    # Bytes since the head began, including its first packet unless a request ended in it; -1 in a
    # body.
    _head_bytes = 0
    _head_tail = b""  # its last three bytes: the blank line may span two packets
    _is_in_head = False  # a head has begun
    _head_timer: asyncio.TimerHandle | None = None
    _discarded_bytes = 0
    _discard_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_discard_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes >= 0:
            # Bytes after the head in the same packet count too: a packet is small.
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self._ends_in(data):
                self._refuse(431)
                return
            self._head_tail = (self._head_tail + data[-3:])[-3:]
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # upgrades are not supported; the request is handled as plain HTTP
        except httptools.HttpParserError:
            self._refuse(400)
            return
        # Most heads arrive in one packet and need no timer.
        if self._is_in_head and self._head_timer is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._discarded_bytes = 0
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        self._head_bytes = -1
        self._head_tail = b""
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()
        self.cycle.transport = _OneWrite(self.transport, self.cycle)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > DISCARDED_BYTES_MAX:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = 0
        self._stop_discard_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._head_bytes < 0 and self._discard_timer is None:  # the rest is discarded
            self._discard_timer = self.loop.call_later(DISCARDED_SECONDS_MAX, self.transport.close)

    def _ends_in(self, data: bytes) -> bool:
        """Whether the head ends within the allowed part of this packet."""
        allowed = HEAD_BYTES_MAX - (self._head_bytes - len(data))
        return b"\r\n\r\n" in self._head_tail + data[: max(0, allowed)]

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self._head_is_late)

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_discard_timer(self) -> None:
        if self._discard_timer is not None:
            self._discard_timer.cancel()
            self._discard_timer = None

    def _refuse(self, status: int) -> None:
        """Respond and close; unsent responses to earlier requests on this connection are lost."""
        self._stop_timer()
        code, detail = _REFUSALS[status]
        response: Any = problem_response(status, code, detail, headers={"Connection": "close"})
        lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", response.body]))
        self.transport.close()


class _OneWrite:
    """The transport of one response: sends head and first body part in one system call.

    uvicorn writes them separately, and each write is sent immediately.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._head: bytes | None = None
        self._is_head_out = cycle.scope["method"] == "HEAD"  # nothing follows

    def write(self, data: bytes) -> None:
        if self._is_head_out or not self._cycle.response_started:  # or `100 Continue`
            self._transport.write(data)
        elif self._head is None:
            self._head = data
        else:
            self._is_head_out = True
            self._transport.write(self._head + data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if self._head is not None and not self._is_head_out:
            self._transport.write(self._head)
        self._transport.close()
