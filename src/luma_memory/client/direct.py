"""HTTP for short calls over plain TCP, for a fifth of the general client's processor time.

It reads only what the service sends: HTTP/1.1 with a declared length. A proxy in between may send
another form (chunked, or until the connection closes): then the call is repeated with the general
client, as are all later ones, so only repeatable calls are sent here. TLS, proxies of the
environment, uploads and streamed responses are left to the general client from the start.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2

from luma_memory.client.address import CONNECT_SECONDS, KEEP_ALIVE_SECONDS, Address
from luma_memory.client.calls import Call
from luma_memory.protocol.base_path import BASE_PATH

HEAD_BYTES_MAX: Final = 65_536
_HEAD_END: Final = b"\r\n\r\n"
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [^\r\n]*)?")
_BODILESS: Final = frozenset({204, 304})


class IrregularResponse(Exception):  # noqa: N818 - not a failure
    """The response has a form that is not read here."""


@dataclass(frozen=True, slots=True)
class DirectResponse:
    status: int
    headers: Mapping[str, str]  # by lower-case name; of a repeated one, the last
    content: bytes


class DirectConnections:
    """Connections of one event loop to one service. `send` raises httpx2.TransportError, and
    IrregularResponse."""

    def __init__(self, address: Address, headers: Mapping[str, str], connections_max: int) -> None:
        parts = urlsplit(address.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path = parts.path + BASE_PATH
        lines = {"Host": parts.netloc, **headers, "Accept-Encoding": "identity"}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._slots = asyncio.Semaphore(connections_max)
        self._idle: deque[_Connection] = deque()
        self._is_closed = False

    @classmethod
    def to(
        cls, address: Address, headers: Mapping[str, str], connections_max: int
    ) -> DirectConnections | None:
        """None where the general client is needed."""
        is_plain = address.url.startswith("http://")
        if not is_plain or (address.trusts_environment and getproxies()):
            return None
        return cls(address, headers, connections_max)

    def takes(self, call: Call) -> bool:
        """Whether the call may be repeated, and can be sent as it is: the general client reports
        what cannot."""
        return (
            call.is_repeatable
            and call.path.isascii()
            and all(value.isascii() and value.isprintable() for value in call.headers.values())
        )

    async def send(self, call: Call, seconds: float) -> DirectResponse:
        """seconds: of each wait for the response; connecting has less."""
        body = call.body or b""
        lines = "".join(f"{name}: {value}\r\n" for name, value in call.headers.items())
        if body or call.method != "GET":
            lines += f"Content-Length: {len(body)}\r\n"
        head = f"{call.method} {self._path}{call.path} HTTP/1.1\r\n{self._head}{lines}\r\n"
        await self._take_slot(seconds)
        connection = None
        try:
            connection = self._reusable() or await self._connect(seconds)
            response = await connection.exchange(head.encode() + body, seconds)
            if connection.is_reusable and not self._is_closed:
                self._idle.append(connection)
                connection = None
            return response
        finally:
            self._slots.release()
            if connection is not None:
                connection.close()

    async def aclose(self) -> None:
        """Close idle connections."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()
        await asyncio.sleep(0)  # the sockets are closed then

    async def _take_slot(self, seconds: float) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise httpx2.PoolTimeout("no free connection") from None

    def _reusable(self) -> _Connection | None:
        """The connection used last, if it is still open."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_of_this_loop:
                continue  # closed with its event loop
            if connection.is_fresh:
                return connection
            connection.close()
        return None

    async def _connect(self, seconds: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(CONNECT_SECONDS, seconds)):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop), self._host, self._port, happy_eyeballs_delay=0.25
                )
        except TimeoutError:
            raise httpx2.ConnectTimeout("no connection in time") from None
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error
        return connection


class _Connection(asyncio.Protocol):
    """One exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._response: asyncio.Future[DirectResponse] | None = None
        self._data = bytearray()
        self._head: tuple[int, Mapping[str, str], int] | None = None  # status, headers, length
        self._start = 0  # of the body
        self._active_at = 0.0
        self.is_reusable = False

    @property
    def is_of_this_loop(self) -> bool:
        return self._loop is asyncio.get_running_loop()

    @property
    def is_fresh(self) -> bool:
        """Whether an idle connection can be used again."""
        return self.is_reusable and self._loop.time() - self._active_at < KEEP_ALIVE_SECONDS

    def close(self) -> None:
        self.is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, request: bytes, seconds: float) -> DirectResponse:
        assert self._transport is not None
        self._head = None
        self._data.clear()
        self.is_reusable = False
        response: asyncio.Future[DirectResponse] = self._loop.create_future()
        self._response = response
        self._active_at = self._loop.time()
        timer = self._loop.call_later(seconds, self._is_late, seconds)
        self._timer = timer
        self._transport.write(request)
        try:
            return await response
        finally:
            self._timer.cancel()
            self._response = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None or response.done():  # nothing was requested
            self.close()
            return
        self._active_at = self._loop.time()
        try:
            found = self._read(data)
        except IrregularResponse as error:
            response.set_exception(error)
            return
        if found is not None:
            response.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_reusable = False
        if self._response is not None and not self._response.done():
            self._response.set_exception(httpx2.ReadError("the connection was closed"))

    def _read(self, data: bytes) -> DirectResponse | None:
        """The response once it is complete."""
        self._data += data
        if self._head is None:
            end = self._data.find(_HEAD_END)
            if max(end, len(self._data) if end < 0 else 0) > HEAD_BYTES_MAX:
                raise IrregularResponse("a long head")
            if end < 0:
                return None
            self._head = _plain_head(bytes(self._data[:end]))
            self._start = end + len(_HEAD_END)
        status, headers, length = self._head
        if len(self._data) < self._start + length:
            return None
        is_all = len(self._data) == self._start + length
        self.is_reusable = is_all and headers.get("connection", "").lower() != "close"
        return DirectResponse(status, headers, bytes(self._data[self._start :][:length]))

    def _is_late(self, seconds: float) -> None:
        left = self._active_at + seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._is_late, seconds)
        elif self._response is not None and not self._response.done():
            self._response.set_exception(httpx2.ReadTimeout("no response in time"))


def _plain_head(head: bytes) -> tuple[int, Mapping[str, str], int]:
    """Status, headers and length. Raises IrregularResponse unless the length is declared."""
    first, *lines = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        key = name.decode("latin-1").lower()
        if not colon or key.strip() != key or (key in headers and key == "content-length"):
            raise IrregularResponse("an unusual header")
        headers[key] = value.strip().decode("latin-1")
    if status is None or "transfer-encoding" in headers:
        raise IrregularResponse("another version, an interim response or a body of unknown length")
    number = int(status[1])
    if number in _BODILESS:
        return number, headers, 0
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal()):
        raise IrregularResponse("no length")
    return number, headers, int(length)
