"""Requests to receivers, on real sockets: what is refused is never connected to."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from tests.fakes.webhook_receiver import Trap, WebhookReceiver, hangs, responds

from luma_memory.providers.webhooks.sender import NOT_ALLOWED, HttpWebhookSender

NAMES = ["trap.example", "127.1", "0x7f000001", "2130706433", "localhost", "017700000001"]
LITERALS = [
    *("127.0.0.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[::127.0.0.1]", "[64:ff9b::7f00:1]", "127.0.0.2"),
]


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names under `example` resolve to these addresses, in turn, as a rebound one does."""
    statuses: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if isinstance(host, str) and host.endswith(".example"):
            address = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            return real(address, port, *args, **options)
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return statuses


@pytest.mark.parametrize("host", [*NAMES, *LITERALS])
async def test_addresses_that_are_not_public_are_not_connected_to(
    host: str, resolving: list[str]
) -> None:
    resolving.append("127.0.0.1")
    async with Trap() as trap, HttpWebhookSender(timeout_seconds=5, allow_private=False) as sender:
        for scheme in ("http", "https"):
            url = f"{scheme}://{host}:{trap.port}/"
            response = await sender.send(url, body=b"{}", headers={})
            assert response.status is None
            assert response.error
        assert trap.connections == 0
        if host in ("trap.example", "127.0.0.1", "[::1]"):
            assert response.error == NOT_ALLOWED


async def test_the_trap_counts_what_is_allowed() -> None:
    async with Trap() as trap, HttpWebhookSender(timeout_seconds=5, allow_private=True) as sender:
        for host in ("127.0.0.1", "localhost"):
            await sender.send(f"http://{host}:{trap.port}/", body=b"{}", headers={})
        assert trap.connections >= 2


async def test_a_name_that_is_rebound_is_checked_at_each_connection(resolving: list[str]) -> None:
    # First something public that does not respond, then this machine: also the second time, what is
    # connected to is what was checked.
    resolving += ["192.0.2.1", "127.0.0.1"]
    async with Trap() as trap, HttpWebhookSender(timeout_seconds=5, allow_private=False) as sender:
        for _ in range(3):
            url = f"http://rebound.example:{trap.port}/"
            response = await sender.send(url, body=b"{}", headers={})
            assert response.error == NOT_ALLOWED
        assert trap.connections == 0


async def test_a_name_server_that_does_not_respond_holds_up_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved, is_over, real = [], threading.Event(), socket.getaddrinfo

    def resolve(host: Any, *args: Any, **options: Any) -> Any:
        if str(host).endswith(".example"):
            resolved.append(host)
            is_over.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no response")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        async with (
            WebhookReceiver() as receiver,
            HttpWebhookSender(timeout_seconds=20, allow_private=True) as sender,
        ):
            hanging = [
                asyncio.create_task(sender.send(f"https://{n % 40}.example/", body=b"", headers={}))
                for n in range(160)
            ]
            while len(resolved) < 40:  # noqa: ASYNC110 - the resolver's threads
                await asyncio.sleep(0.01)
            url = receiver.url("/").replace("127.0.0.1", "localhost")
            response = await sender.send(url, body=b"{}", headers={})
            assert response.is_success
            assert await asyncio.wait_for(asyncio.to_thread(lambda: True), 10)
            assert len(resolved) == 40  # once for each name
            is_over.set()
            responses = await asyncio.gather(*hanging)
            assert all(response.error for response in responses)
    finally:
        is_over.set()


async def test_what_a_receiver_does_is_a_value() -> None:
    async with (
        WebhookReceiver() as receiver,
        HttpWebhookSender(timeout_seconds=1, allow_private=True) as sender,
    ):
        receiver.behaviors |= {
            "/500": responds(500),
            "/429": responds(429, **{"Retry-After": "7"}),
            "/302": responds(302, Location=receiver.url("/well")),
            "/hangs": hangs,
        }
        found = {
            path: await sender.send(receiver.url(path), body=b"{}", headers={"webhook-id": "x"})
            for path in ("/well", "/500", "/429", "/302", "/hangs")
        }
        assert found["/well"].is_success
        assert found["/well"].error is None
        assert [found[path].status for path in ("/500", "/429", "/302", "/hangs")] == [
            *(500, 429, 302),
            None,
        ]
        assert found["/429"].retry_after_seconds == 7
        assert "no response within 1 s" in (found["/hangs"].error or "")
        assert [request.path for request in receiver.requests].count("/well") == 1
        request = receiver.requests[0]
        assert request.headers["content-type"] == "application/json"
        assert request.headers["webhook-id"] == "x"
        assert request.headers["user-agent"].startswith("luma-memory/")


@pytest.mark.parametrize("form", ["endless", "drip", "garbage", "compressed", "close"])
async def test_a_hostile_response_is_bounded(form: str) -> None:
    sent = 0
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        try:
            match form:
                case "endless":
                    writer.write(head + b"\r\n")
                    while True:
                        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                        await writer.drain()
                        sent += 0x10000
                case "drip":
                    writer.write(head + b"X: ")
                    while True:
                        writer.write(b"x")
                        await writer.drain()
                        await asyncio.sleep(0.05)
                case "garbage":
                    writer.write(b"\x00\xff" * 1_000 + b"\r\n\r\n")
                case "compressed":
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
                        b"Content-Length: 4\r\n\r\nnope"
                    )
                case _:
                    pass
        except ConnectionError:
            pass
        finally:
            writer.close()
            ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        HttpWebhookSender(timeout_seconds=2, allow_private=True) as sender,
        asyncio.timeout(60),
    ):
        response = await sender.send(f"http://127.0.0.1:{port}/", body=b"{}", headers={})
        assert response.is_success == (form in ("endless", "compressed"))
        await ended.wait()
        assert sent < 50_000_000  # what the sockets' buffers take
