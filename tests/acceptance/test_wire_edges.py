"""What comes before a request is one: heads without end, slow ones, what is no HTTP at all."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.support.service import BASE_PATH

from luma_memory.cli.processes import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIVE = f"GET {BASE_PATH}/health/live HTTP/1.1\r\nHost: localhost\r\n".encode()


class Wire:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> tuple[int, dict[str, object]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r")[0])
        body = json.loads(await self.reader.readexactly(length))
        if int(head[9:12]) >= 400:
            assert "content-type: application/problem+json" in head
        return int(head[9:12]), body


@asynccontextmanager
async def wire(stack: Stack) -> AsyncIterator[Wire]:
    address = urlsplit(stack.base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(30):
            yield Wire(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of TLS
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
    ],
)
async def test_invalid_http_gets_a_problem_response(stack: Stack, nonsense: bytes) -> None:
    async with wire(stack) as line:
        await line.send(nonsense)
        status, problem = await line.response()
        assert (status, problem["code"]) == (400, "malformed_http")
        assert await line.reader.read() == b"", "the connection is closed"


async def test_a_head_without_end_is_cut_off(stack: Stack) -> None:
    for filler in (b"X-Filler: " + b"x" * 1_000 + b"\r\n", b"x" * 1_000):
        async with wire(stack) as line:
            await line.send(LIVE + filler)  # what comes with the head's beginning counts too
            for _ in range(32):  # no more than needed: further bytes would cause a reset
                await line.send(filler)
            status, problem = await line.response()
            assert (status, problem["code"]) == (431, "head_too_large")


@pytest.mark.parametrize("head", [1_000, 25_000])
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r\n\r\n"])
async def test_a_heads_end_may_come_in_two_packets(stack: Stack, head: int, end: bytes) -> None:
    body = json.dumps({"user_id": "wire", "content": "The ferry leaves at noon. " * 1_700}).encode()
    start = (
        f"POST {BASE_PATH}/blocks HTTP/1.1\r\nHost: localhost\r\nX-Filler: {'x' * head}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    async with wire(stack) as line, wire(stack) as other:
        await line.send(start.removesuffix(end))
        await other.send(LIVE + b"\r\n")
        await other.response()  # the server has read what came before
        await line.send(end + body)
        assert (await line.response())[0] == 202


@pytest.mark.slow
async def test_a_head_that_does_not_come_is_not_waited_for(stack: Stack) -> None:
    async with wire(stack) as slow, wire(stack) as silent:
        await slow.send(LIVE)
        for line in (slow, silent):
            status, problem = await line.response()
            assert (status, problem["code"]) == (408, "request_timeout")


async def test_a_connection_serves_many_requests_also_pipelined(stack: Stack) -> None:
    body = json.dumps({"user_id": "wire", "query": "x" * 5_000}).encode()
    search = (
        f"POST {BASE_PATH}/search HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    async with wire(stack) as line:
        for _ in range(20):
            await line.send(LIVE + b"\r\n")
            assert (await line.response())[0] == 200
            await line.send(search)
            assert (await line.response())[0] == 200
        await line.send((LIVE + b"\r\n") * 5)
        assert [(await line.response())[0] for _ in range(5)] == [200] * 5


async def test_a_response_without_a_body_is_sent_too(stack: Stack) -> None:
    """Head and body leave together: a head that nothing follows must not wait for it."""
    async with wire(stack) as one:
        await one.send(LIVE.replace(b"GET ", b"HEAD ") + b"\r\n")
        head = await one.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await one.send(LIVE + b"\r\n")
        assert (await one.response())[0] == 200


async def test_expect_continue_is_confirmed(stack: Stack) -> None:
    body = b'{"user_id": "waits", "content": "The ferry leaves at noon."}'
    head = (
        f"POST {BASE_PATH}/blocks HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with wire(stack) as one:
        await one.send(head.encode())
        assert await one.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await one.send(body)
        assert (await one.response())[0] == 202


async def test_an_upgrade_request_gets_a_plain_http_response(stack: Stack) -> None:
    async with wire(stack) as line:
        await line.send(LIVE + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await line.response())[0] == 200


async def test_a_path_has_one_spelling(client: httpx2.AsyncClient) -> None:
    for path in ("/blocks/?user_id=a", "/health/live/", "//health/live"):
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "route_not_found"), path


async def test_the_reference_works_with_its_own_assets_only(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    assert "http" not in page.text
    loaded = re.findall(r"(?:src|href)=(docs/[\w.-]+)", page.text)
    assert len(loaded) == 4
    for name in loaded:
        asset = await client.get(f"/{name}")
        assert asset.status_code == 200, name
        expected = "text/css" if name.endswith(".css") else "text/javascript"
        assert asset.headers["content-type"].startswith(expected), name
    assert (await client.get("/docs/other.js")).status_code == 404
