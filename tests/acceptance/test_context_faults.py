"""Contexts while PostgreSQL or Redis is away, with separate processes."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from tests.support.load import client_of
from tests.support.machine_load import within
from tests.support.redis_server import RedisServer, running_redis, skip_without_redis
from tests.support.server_faults import FaultyServer, service_on
from tests.support.service import until_idle, until_recall_is_warm
from tests.support.tcp_proxy import hanging_server

from luma_memory.cli.processes import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNCACHED_SECONDS_MAX = 2.0
EXTRA_SECONDS_MAX = 0.050
RETRY_SECONDS = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[FaultyServer, Stack]]:
    """A service whose database can be taken away, with a Redis."""
    skip_without_redis()
    server = FaultyServer(tmp_path_factory.mktemp("context faults") / "data")
    async with (
        running_redis() as redis,
        service_on(server, workers=1, redis_url=redis.url) as stack,
    ):
        async with client_of(stack) as client:
            await until_recall_is_warm(client)
        yield server, stack


async def _ask(client: httpx2.AsyncClient, query: str) -> httpx2.Response:
    return await client.post("/context", json={"user_id": "ada", "query": query})


async def _complete(client: httpx2.AsyncClient, query: str) -> dict[str, Any]:
    """The context of a question with nothing left out: a busy machine may exceed its time."""
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            response = await _ask(client, query)
            if response.status_code == 200 and not response.json()["degraded"]:
                return dict(response.json())


async def _until_well(client: httpx2.AsyncClient) -> None:
    """A kept context is served, degraded, until the service has noticed that PostgreSQL is back."""
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            response = await _ask(client, "Is the database back?")
            if response.status_code == 200 and "database" not in response.json()["degraded"]:
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("fault", ["stopped", "hanging"])
async def test_without_the_database_kept_contexts_are_served_and_others_refused_in_time(
    served: tuple[FaultyServer, Stack], fault: str
) -> None:
    server, stack = served
    async with client_of(stack) as client:
        await client.post("/blocks", json={"user_id": "ada", "content": f"A {fault} kayak."})
        await until_idle(client)
        first = await _complete(client, "Where is the kayak?")
        async with _fault(server, fault):
            for number in range(3):
                started = time.perf_counter()
                kept = await _ask(client, "Where is the kayak?")
                assert time.perf_counter() - started < within(UNCACHED_SECONDS_MAX)
                body = kept.json()
                assert (kept.status_code, body["cached"]) == (200, True)
                assert body["degraded"] == ["database"]
                assert (body["text"], body["blocks"]) == (first["text"], first["blocks"])
                started = time.perf_counter()
                refused = await _ask(client, f"Another question {number}?")
                assert time.perf_counter() - started < within(UNCACHED_SECONDS_MAX)
                assert refused.status_code == 503
                assert refused.json()["code"] == "database_unavailable"
                assert int(refused.headers["Retry-After"]) > 0
        await _until_well(client)
        again = (await _ask(client, "Where is the kayak?")).json()
        assert again["degraded"] == []


@asynccontextmanager
async def _fault(server: FaultyServer, fault: str) -> AsyncIterator[None]:
    if fault == "hanging":
        with server.hanging():
            yield
        return
    await server.stop_hard()
    try:
        yield
    finally:
        await server.start_again()


@pytest.mark.parametrize("requests", [60, pytest.param(1_000, marks=pytest.mark.slow)])
async def test_a_hanging_redis_adds_next_to_nothing_to_accepting_and_recalling(
    tmp_path: Path, requests: int, record_property: Callable[[str, object], None]
) -> None:
    """Held against the same service with Redis switched off, turn by turn."""
    async with hanging_server() as port:
        off = running_stack(data_dir=tmp_path / "off", workers=0)
        hanging = running_stack(
            data_dir=tmp_path / "hanging", workers=0, redis_url=f"redis://127.0.0.1:{port}"
        )
        async with (
            off as without,
            hanging as with_redis,
            client_of(without) as plain,
            client_of(with_redis) as hampered,
        ):
            taken = await _taken([plain, hampered], requests)
    # Of a few dozen requests the last percentile is the machine's worst moment.
    percent = 99 if requests >= 1_000 else 50
    for path in ("/blocks", "/search", "/context"):
        ours, theirs = (_percentile(taken[number, path], percent) for number in (1, 0))
        line = f"p{percent} {ours * 1000:.1f} ms, without Redis {theirs * 1000:.1f} ms"
        record_property(path, line)
        assert ours - theirs < within(EXTRA_SECONDS_MAX), line


async def _taken(
    clients: list[httpx2.AsyncClient], requests: int
) -> dict[tuple[int, str], list[float]]:
    taken: dict[tuple[int, str], list[float]] = {}
    for turn in range(requests):
        bodies: dict[str, dict[str, Any]] = {
            "/blocks": {"user_id": "ada", "content": f"Note {turn} about the boat."},
            "/search": {"user_id": "ada", "query": f"Which boat {turn}?"},
            "/context": {"user_id": "ada", "query": f"Which boat {turn}?"},
        }
        for path, body in bodies.items():
            for number, client in enumerate(clients):
                started = time.perf_counter()
                response = await client.post(path, json=body)
                taken.setdefault((number, path), []).append(time.perf_counter() - started)
                assert response.status_code < 300, response.text
    return taken


def _percentile(seconds: list[float], percent: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


async def test_two_processes_share_entries_and_counts(tmp_path: Path) -> None:
    skip_without_redis()
    async with _two_apis(tmp_path) as (one, two):
        await one.post("/blocks", json={"user_id": "ada", "content": "The kayak is green."})
        await one.get("/cache/stats")  # hands over what it counted
        before = (await two.get("/cache/stats")).json()
        first = (await _ask(one, "What colour is the kayak?")).json()
        second = (await _ask(two, "What colour is the kayak?")).json()
        assert (first["cached"], second["cached"]) == (False, True)
        assert second["text"] == first["text"]
        await two.post("/blocks", json={"user_id": "ada", "content": "The kayak is red now."})
        assert not (await _ask(one, "What colour is the kayak?")).json()["cached"]
        await one.get("/cache/stats")
        stats = (await two.get("/cache/stats")).json()
        assert (stats["hits"] - before["hits"], stats["misses"] - before["misses"]) == (1, 2)


@asynccontextmanager
async def _two_apis(
    folder: Path,
) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]:
    """Two services on one database and one Redis."""
    server = FaultyServer(folder / "data")
    async with (
        running_redis() as redis,
        service_on(server, workers=0, redis_url=redis.url) as one,
        _beside(one, redis) as two,
        client_of(one) as first,
        client_of(two) as second,
    ):
        for client in (first, second):
            await until_recall_is_warm(client)
        yield first, second


@asynccontextmanager
async def _beside(stack: Stack, redis: RedisServer) -> AsyncIterator[Stack]:
    other = Stack(stack.settings, workers=0)
    await other.start()
    try:
        yield other
    finally:
        await other.stop()
