"""Short calls over plain TCP: forms of responses, reused connections, what is left to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from luma_memory.client import AsyncMemoryClient, MemoryClient, Retries, UnavailableError
from luma_memory.client.address import Address
from luma_memory.client.calls import Call
from luma_memory.client.direct import DirectConnections

BODY = b'{"live":true}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"
    + BODY[:5]
    + b"\r\n8\r\n"
    + BODY[5:]
    + b"\r\n0\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 13\r\n\r\n" + BODY
FOLDED = b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 13\r\n\r\n" + BODY
TWO_LENGTHS = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Length: 13\r\n\r\n" + BODY
LONG_HEAD = b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000 + b"\r\nContent-Length: 13\r\n\r\n" + BODY


@dataclass
class Server:
    """Sends the given pieces for each request; counts connections and keeps the requests."""

    pieces: Callable[[int], Sequence[bytes | None]]  # None: the connection is closed
    url: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length: "):
                        head += await reader.readexactly(int(line[16:]))
                self.requests.append(head)
                for piece in self.pieces(len(self.requests)):
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the test is over
        finally:
            writer.close()


@asynccontextmanager
async def running(pieces: Callable[[int], Sequence[bytes | None]]) -> AsyncIterator[Server]:
    server = Server(pieces)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server


@pytest.mark.parametrize(
    ("pieces", "is_direct"),
    [
        ([PLAIN], True),
        ([PLAIN[:9], PLAIN[9:37], PLAIN[37:40], PLAIN[40:]], True),
        ([CHUNKED], False),
        ([UNTIL_CLOSE, None], False),
        ([INTERIM], False),
        ([OLD, None], False),
        ([FOLDED], False),
        ([TWO_LENGTHS], False),
        ([LONG_HEAD], False),
    ],
    ids=["plain", "split", "chunked", "until close", "interim", "1.0", "folded", "twice", "long"],
)
async def test_every_form_of_response_is_read(
    pieces: Sequence[bytes | None], is_direct: bool
) -> None:
    """What is not read directly is requested again by the general client, and all later calls."""
    async with running(lambda _: pieces) as server, AsyncMemoryClient(server.url) as client:
        calls = 3
        for _ in range(calls):
            assert await client._send(Call("GET", "/x")) == BODY
        assert len(server.requests) == calls + (not is_direct)
        if is_direct:
            assert server.connections == 1


async def test_a_body_and_its_headers_arrive_once() -> None:
    async with (
        running(lambda _: [PLAIN]) as server,
        AsyncMemoryClient(server.url, api_key="secret") as client,
    ):
        await client._send(Call("PUT", "/a?b=%C3%A9", {"X-B": "c"}, b"{}"))
    (request,) = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"PUT /api/v1/memory/a?b=%C3%A9 HTTP/1.1"
    assert body == b"{}"
    assert {b"Authorization: Bearer secret", b"X-B: c", b"Content-Length: 2"} <= set(lines)
    assert sum(line.lower().startswith(b"host:") for line in lines) == 1


@pytest.mark.parametrize("closes_after", [0, 1])
async def test_a_connection_closed_by_the_service_is_replaced(closes_after: int) -> None:
    """Before the response (a retry), or after it."""

    def pieces(number: int) -> Sequence[bytes | None]:
        return [PLAIN, None] if number != 2 or closes_after else [None]

    retries = Retries(first_pause_seconds=0.001)
    async with running(pieces) as server, AsyncMemoryClient(server.url, retries=retries) as client:
        for _ in range(3):
            assert await client._send(Call("GET", "/x")) == BODY
        assert server.connections == (3 if closes_after else 4)


async def test_a_cut_response_is_an_error() -> None:
    once = Retries(attempts_max=1)
    async with running(lambda _: [PLAIN[:-1], None]) as server:
        client = AsyncMemoryClient(server.url, retries=once)
        with pytest.raises(UnavailableError) as caught:
            await client._send(Call("GET", "/x"))
        await client.aclose()
    assert caught.value.code == "connection_lost"


async def test_a_silent_service_is_given_up_and_its_connection_closed() -> None:
    async with running(lambda number: [] if number == 1 else [PLAIN]) as server:
        async with AsyncMemoryClient(
            server.url, timeout_seconds=0.05, retries=Retries(attempts_max=1)
        ) as client:
            with pytest.raises(UnavailableError) as caught:
                await client._send(Call("GET", "/x"))
            assert caught.value.code == "service_timeout"
        async with AsyncMemoryClient(server.url) as client:
            assert await client._send(Call("GET", "/x")) == BODY


async def test_a_cancelled_call_leaves_no_response_to_the_next_one() -> None:
    arrived = asyncio.Event()
    other = PLAIN.replace(b"true", b"TRUE")

    def pieces(number: int) -> Sequence[bytes | None]:
        arrived.set()
        return [other[:5]] if number == 1 else [PLAIN]

    async with running(pieces) as server, AsyncMemoryClient(server.url) as client:
        task = asyncio.create_task(client._send(Call("GET", "/x")))
        await arrived.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await client._send(Call("GET", "/x")) == BODY
        assert server.connections == 2


async def test_calls_share_a_limited_number_of_connections() -> None:
    async with running(lambda _: [PLAIN]) as server:
        async with AsyncMemoryClient(server.url, connections_max=3) as client:
            calls = [client._send(Call("GET", "/x")) for _ in range(20)]
            assert set(await asyncio.gather(*calls)) == {BODY}
        assert server.connections <= 3


async def test_no_service_is_an_error_that_allows_a_retry() -> None:
    async with running(lambda _: [PLAIN]) as server:
        url = server.url
    async with AsyncMemoryClient(url, retries=Retries(attempts_max=1)) as client:
        with pytest.raises(UnavailableError) as caught:
            await client._send(Call("GET", "/x"))
    assert caught.value.code == "service_unreachable"


async def test_a_closed_client_opens_no_connection() -> None:
    async with running(lambda _: [PLAIN]) as server:
        client = AsyncMemoryClient(server.url)
        await client.aclose()
        with pytest.raises(RuntimeError):
            await client._send(Call("GET", "/x"))
        assert server.connections == 0


@pytest.mark.parametrize(
    ("call", "taken"),
    [
        (Call("GET", "/x"), True),
        (Call("POST", "/x", {}, b"1", is_repeatable=False), False),
        (Call("GET", "/x", {"If-Match": "a\r\nX-Other: b"}), False),
        (Call("GET", "/x", {"If-Match": "é"}), False),
    ],
)
def test_only_calls_that_may_be_repeated_and_written_as_they_are_are_taken(
    call: Call, taken: bool
) -> None:
    direct = DirectConnections.to(Address("http://127.0.0.1:1"), {}, 1)
    assert direct is not None
    assert direct.takes(call) is taken


@pytest.mark.parametrize(
    ("url", "proxy", "is_direct"),
    [
        ("http://127.0.0.1:1", "http://proxy:1", True),
        ("http://memory.example:1", None, True),
        ("http://memory.example:1", "http://proxy:1", False),
        ("https://127.0.0.1:1", None, False),
    ],
)
def test_tls_and_proxies_are_left_to_the_general_client(
    url: str, proxy: str | None, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)
    found: Any = DirectConnections.to(Address(url), {}, 1)
    assert (found is not None) is is_direct


def test_the_blocking_client_has_the_general_client_only() -> None:
    with MemoryClient("http://127.0.0.1:1") as client:
        assert not hasattr(client, "_direct")
