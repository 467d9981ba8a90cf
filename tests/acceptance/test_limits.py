"""The API under too many, too slow and too large requests, and without its database.

One service, and API processes with small limits on the same database.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from tests.support.keyed_service import beside
from tests.support.load import client_of
from tests.support.machine_load import within
from tests.support.server_faults import FaultyServer, service_on
from tests.support.service import BASE_PATH

from luma_memory.cli.processes import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
BODY_SECONDS = 1.0
REQUESTS_MAX = 4
# An answer that waits for nothing; a machine that runs other tests beside may take its time.
AT_ONCE_SECONDS = 0.5
# Statements are given 4 s by the API, and a free connection 5 s.
HANGING_SECONDS_MAX = 6.0
HEALTH_SECONDS_MAX = 1.0
TRIES_MAX = 5
WAITING_FOR_LOCKS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'luma-memory api' AND wait_event_type = 'Lock'
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> FaultyServer:
    return FaultyServer(tmp_path_factory.mktemp("limits") / "database")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(server: FaultyServer) -> AsyncIterator[Stack]:
    async with service_on(server, workers=1) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def narrow(stack: Stack) -> AsyncIterator[Stack]:
    async with beside(
        stack,
        concurrent_requests_max=REQUESTS_MAX,
        request_timeout_ms=int(BODY_SECONDS * 1000),
    ) as narrow:
        yield narrow


class Half:
    """A request that stops in the middle of its body."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def closed(self) -> float:
        """When the server has closed the connection: the seconds until then."""
        began = time.perf_counter()
        with suppress(ConnectionError):
            async with asyncio.timeout(60):
                await self._reader.read()
        return time.perf_counter() - began

    async def response(self) -> tuple[int, str]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r")[0])
        problem = json.loads(await self._reader.readexactly(length))
        return int(head[9:12]), problem["code"]


@asynccontextmanager
async def half(stack: Stack, *, announced: int = 100, path: str = "/blocks") -> AsyncIterator[Half]:
    address = urlsplit(stack.base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST {BASE_PATH}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {announced}\r\n\r\n{{".encode()
    )
    try:
        await writer.drain()
        yield Half(reader, writer)
    finally:
        writer.close()


async def timed(call: Any) -> tuple[httpx2.Response, float]:
    started = time.perf_counter()
    response: httpx2.Response = await call
    return response, time.perf_counter() - started


@asynccontextmanager
async def filled(
    narrow: Stack, client: httpx2.AsyncClient
) -> AsyncIterator[Sequence[asyncio.Task[httpx2.Response]]]:
    """All places are taken by these requests; each waits for a locked table for up to 4 s."""
    connection = await asyncpg.connect(narrow.database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE memory_jobs")
            waiting = [asyncio.create_task(client.get("/jobs")) for _ in range(REQUESTS_MAX)]
            while await connection.fetchval(WAITING_FOR_LOCKS) < REQUESTS_MAX:
                if any(task.done() for task in waiting):
                    break
                await asyncio.sleep(0.01)
            yield waiting
        await asyncio.gather(*waiting)
    finally:
        await connection.close()


async def test_requests_beyond_the_limit_are_refused_at_once(narrow: Stack) -> None:
    """The refusals arrive while every admitted request still waits."""
    async with client_of(narrow) as client:
        # On a busy machine the admitted ones may end before the others have arrived.
        for _ in range(TRIES_MAX):
            async with filled(narrow, client) as waiting:
                refused = await asyncio.gather(*(client.get("/users/ada") for _ in range(30)))
                health = await client.get("/health")
                was_full = not any(task.done() for task in waiting)
            if was_full:
                break
        assert was_full
        for response in refused:
            assert (response.status_code, response.json()["code"]) == (503, "overloaded")
            assert response.headers["content-type"] == "application/problem+json"
            assert int(response.headers["Retry-After"]) >= 1
        assert health.status_code == 200, "health is served at any load"
        assert (await client.get("/jobs/stats")).status_code == 200


@pytest.mark.parametrize("senders", [8, pytest.param(500, marks=pytest.mark.slow)])
async def test_bodies_that_trickle_take_no_place_and_are_closed_in_time(
    narrow: Stack, senders: int
) -> None:
    """More of them than requests are admitted; others are served all the while."""
    slow = asyncio.Event()

    async def trickle(request: Half) -> None:
        with suppress(ConnectionError):
            while not request.writer.is_closing():
                request.writer.write(b" ")
                await request.writer.drain()
                await asyncio.sleep(BODY_SECONDS / 5)

    async with client_of(narrow) as client, AsyncExitStack() as stack:
        halves = [await stack.enter_async_context(half(narrow)) for _ in range(senders)]
        trickling = [asyncio.create_task(trickle(one)) for one in halves]
        closed = asyncio.gather(*(one.closed() for one in halves))
        while not closed.done():
            response = await client.get("/jobs/stats")
            assert response.status_code == 200, response.text
            block = {"user_id": "ada", "content": "Sent while others trickle."}
            assert (await client.post("/blocks", json=block)).status_code == 202
            slow.set()
        # By the time limit of a body, and a moment for those that were refused before it.
        assert max(await closed) < within(BODY_SECONDS + 7)
        for task in trickling:
            task.cancel()
    assert slow.is_set()


async def test_a_refused_body_that_trickles_on_is_closed(narrow: Stack) -> None:
    """Its response has long been sent."""
    address = urlsplit(narrow.base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST {BASE_PATH}/unknown HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Length: 1000000\r\n\r\n".encode()
    )
    request = Half(reader, writer)
    assert (await request.response())[0] == 404

    async def trickle() -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.2)

    trickling = asyncio.create_task(trickle())
    assert await request.closed() < 10
    trickling.cancel()
    writer.close()


@pytest.mark.parametrize("drips", [False, True])
async def test_a_body_that_does_not_come_is_not_waited_for(narrow: Stack, drips: bool) -> None:
    async def drip(request: Half) -> None:
        while True:
            request.writer.write(b" ")
            await asyncio.sleep(BODY_SECONDS / 10)

    async with half(narrow) as request:
        started = time.perf_counter()
        dripping = asyncio.create_task(drip(request)) if drips else None
        assert await request.response() == (408, "request_timeout")
        seconds = time.perf_counter() - started
        assert BODY_SECONDS * 0.9 < seconds < within(BODY_SECONDS + 2)
        if dripping is not None:
            dripping.cancel()


@pytest.mark.parametrize(("path", "bytes_max"), [("/blocks", 2_000_000), ("/search", 200_000)])
async def test_what_is_announced_too_large_is_not_read(
    stack: Stack, path: str, bytes_max: int
) -> None:
    for announced in (bytes_max + 1, 2**40, 2**63):
        async with half(stack, announced=announced, path=path) as request:
            started = time.perf_counter()
            status, code = await request.response()
            if announced < 2**63:
                assert (status, code) == (413, "body_too_large")
            assert status in (400, 413, 503)
            assert time.perf_counter() - started < within(2 * AT_ONCE_SECONDS)


@pytest.mark.slow
async def test_only_an_address_over_its_rate_limit_is_limited(stack: Stack) -> None:
    async with beside(stack, requests_per_minute=60) as counted, client_of(counted) as client:
        # Without keys, all clients of an address share one limit.
        spent = 0
        while (response := await client.get("/jobs/stats")).status_code == 200:
            spent += 1
        assert 60 <= spent <= 75, "a minute's worth, and what came in while it was spent"
        assert (response.status_code, response.json()["code"]) == (429, "too_many_requests")
        assert 1 <= int(response.headers["Retry-After"]) <= 2
        assert (await client.get("/health")).status_code == 200
        elsewhere = {"X-Forwarded-For": "192.0.2.7"}
        other = await client.get("/jobs/stats", headers=elsewhere)
        assert other.status_code == 200, "another address is another caller"
        await asyncio.sleep(float(response.headers["Retry-After"]))
        assert (await client.get("/jobs/stats")).status_code == 200


def everything(user_id: str) -> list[tuple[str, str, dict[str, Any] | None]]:
    block_id = uuid4()
    return [
        ("POST", "/blocks", {"user_id": user_id, "content": "x"}),
        ("POST", "/blocks?wait=true", {"user_id": user_id, "content": "x"}),
        ("POST", "/blocks/batch", {"blocks": [{"user_id": user_id, "content": "x"}]}),
        ("GET", f"/blocks?user_id={user_id}", None),
        ("GET", f"/blocks/{block_id}?user_id={user_id}", None),
        ("PATCH", f"/blocks/{block_id}?user_id={user_id}", {"content": "y"}),
        ("DELETE", f"/blocks/{block_id}?user_id={user_id}", None),
        ("GET", f"/blocks/{block_id}/revisions?user_id={user_id}", None),
        ("POST", "/search", {"user_id": user_id, "query": "x"}),
        ("POST", "/context", {"user_id": user_id, "query": f"x {block_id}"}),
        ("GET", "/jobs", None),
        ("GET", "/jobs/1", None),
        ("POST", "/jobs/1/cancel", None),
        ("GET", "/jobs/stats", None),
        ("GET", "/usage", None),
        ("GET", f"/users/{user_id}/export", None),
        ("DELETE", f"/users/{user_id}", None),
    ]


@pytest.mark.parametrize("callers", [1, pytest.param(4, marks=pytest.mark.slow)])
async def test_a_hanging_database_is_reported_in_time(
    server: FaultyServer, stack: Stack, callers: int
) -> None:
    async with client_of(stack) as client:
        await client.post("/blocks", json={"user_id": "ada", "content": "Before."})
        with server.hanging():
            requests = everything("ada") * callers
            pending = asyncio.gather(
                *(
                    timed(client.request(method, path, json=body, headers={"Idempotency-Key": "k"}))
                    for method, path, body in requests
                )
            )
            healths = []
            while not pending.done():
                healths.append(await timed(client.get("/health")))
            for (method, path, _), (response, seconds) in zip(requests, await pending, strict=True):
                shown = (
                    f"{method} {path}: {response.status_code} {response.text} after {seconds:.1f} s"
                )
                assert response.status_code == 503, shown
                assert response.json()["code"] in ("database_unavailable", "search_timeout"), shown
                assert int(response.headers["Retry-After"]) > 0
                assert seconds < within(HANGING_SECONDS_MAX * callers), shown
        assert len(healths) > 1
        assert min(seconds for _, seconds in healths) < within(HEALTH_SECONDS_MAX)
        last, _ = healths[-1]
        assert (last.status_code, last.json()["status"]) == (200, "unavailable")
        async with asyncio.timeout(30):
            while (await client.get("/health")).json()["status"] != "ok":
                pass
        again = await client.post("/blocks", json={"user_id": "ada", "content": "After."})
        assert again.status_code == 202


async def test_a_disabled_system_still_reads_and_reports_its_state(stack: Stack) -> None:
    user_id = f"off-{uuid4()}"
    async with client_of(stack) as client:
        kept = await client.post("/blocks", json={"user_id": user_id, "content": "Kept as it is."})
        assert kept.status_code == 202
    async with beside(stack, system_enabled=False) as off, client_of(off) as client:
        document = (await client.get("/openapi.json")).json()
        writes = [
            (method.upper(), path.removeprefix(BASE_PATH))
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if method != "get" and operation["x-permission"] != "read"
        ]
        assert len(writes) >= 9
        for method, path in writes:
            known = path.replace("{block_id}", kept.json()["id"]).replace("{user_id}", user_id)
            response = await client.request(method, known.replace("{job_id}", "1"), json={})
            assert (response.status_code, response.json()["code"]) == (503, "system_disabled"), path
        health = (await client.get("/health")).json()
        assert (health["system_enabled"], health["status"]) == (False, "degraded")
        assert (await client.get("/health/ready")).status_code == 200
        for path in ("/search", "/context"):
            shown = await client.post(path, json={"user_id": user_id, "query": "kept"})
            assert shown.headers["X-Memory-System"] == "system_disabled"
            assert shown.json()["degraded"][-1] == "system_disabled"
        listed = await client.get("/blocks", params={"user_id": user_id})
        assert listed.headers["X-Memory-System"] == "system_disabled"
        assert [block["content"] for block in listed.json()["blocks"]] == ["Kept as it is."]
        exported = await client.get(f"/users/{user_id}/export")
        assert exported.headers["X-Memory-System"] == "system_disabled"
