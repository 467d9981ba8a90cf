"""A keep-alive HTTP/1.1 client with little overhead, because it shares the cores with the server.

One request at a time per connection; responses need a Content-Length, which our server sends.
Requests are bytes built before the clock starts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

from benchmarks.figures import WrongResultError

BASE_PATH = "/api/v1/memory"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    process_id: int


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int
    body: bytes
    duration_ms: float

    def json(self) -> Any:
        return json.loads(self.body)


class Connection(asyncio.Protocol):
    """One connection; `ask` awaits the response to the previous request."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._response: asyncio.Future[bytes] | None = None
        self._received = b""
        self._length = -1  # of head and body together; -1: the head is not complete yet

    async def ask(self, request: bytes) -> HttpResponse:
        """Send and wait. Raises ConnectionError when the server goes away."""
        assert self._transport is not None
        self._response = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        self._transport.write(request)
        whole = await self._response
        duration_ms = (time.perf_counter() - started) * 1000
        head, _, body = whole.partition(b"\r\n\r\n")
        return HttpResponse(int(head[9:12]), body, duration_ms)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._length < 0:
            self._length = _whole_length(self._received)
        if 0 <= self._length <= len(self._received) and self._response is not None:
            response, self._response = self._response, None
            whole, self._received, self._length = self._received, b"", -1
            if not response.done():
                response.set_result(whole)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(exc or ConnectionError("the server closed the connection"))


def _whole_length(received: bytes) -> int:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return -1
    for line in received[:end].lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return end + 4 + int(line[15:])
    raise WrongResultError("a response without Content-Length")


def post(path: str, body: Any, *, key: str | None = None) -> bytes:
    """A whole POST request of a JSON body, with an API key where one is given."""
    return _request("POST", path, body, key)


def get(path: str, *, key: str | None = None) -> bytes:
    """A GET with its query, escaped, and with an API key where one is given."""
    return _request("GET", path, None, key)


def put(path: str, body: Any) -> bytes:
    """A whole PUT request of a JSON body."""
    return _request("PUT", path, body, None)


def _request(method: str, path: str, body: Any, key: str | None) -> bytes:
    content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
    credentials = "" if key is None else f"Authorization: Bearer {key}\r\n"
    head = (
        f"{method} {BASE_PATH}{path} HTTP/1.1\r\nHost: localhost\r\n{credentials}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@asynccontextmanager
async def connections(address: Address, count: int) -> AsyncIterator[Sequence[Connection]]:
    """Open connections, closed at the end."""
    loop = asyncio.get_running_loop()
    opened: list[Connection] = []
    try:
        for _ in range(count):
            _, connection = await loop.create_connection(Connection, address.host, address.port)
            opened.append(connection)
        yield opened
    finally:
        for connection in opened:
            connection.close()


@dataclass(frozen=True, slots=True)
class Load:
    """The responses to several clients, each sending its next request after a response."""

    responses: Sequence[HttpResponse]
    seconds: float
    client_seconds: float  # processor time of this side

    @property
    def per_second(self) -> float:
        return len(self.responses) / self.seconds


async def closed_loop(
    clients: Sequence[Connection], requests: Sequence[bytes], status: int
) -> Load:
    """Send all requests over the clients. Raises WrongResultError for any other status."""
    waiting = iter(requests)

    async def work(client: Connection) -> list[HttpResponse]:
        return [await client.ask(request) for request in waiting]

    started, cpu = time.perf_counter(), time.process_time()
    responses = chain.from_iterable(await asyncio.gather(*(work(client) for client in clients)))
    load = Load([*responses], time.perf_counter() - started, time.process_time() - cpu)
    for response in load.responses:
        expect(response, status)
    return load


def expect(response: HttpResponse, status: int) -> None:
    """Raises WrongResultError with the beginning of the body."""
    if response.status != status:
        raise WrongResultError(f"{response.status} instead of {status}: {response.body[:300]!r}")
