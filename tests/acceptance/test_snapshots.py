"""API processes that keep snapshots, beside one that scans: the same results, whatever happens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr
from tests.support.redis_server import free_port
from tests.support.server_faults import FaultyServer, service_on
from tests.support.service import BASE_PATH, until_idle, until_recall_is_warm
from tests.support.versions import process_of

from luma_memory.cli.servers import API_MODULE

pytestmark = pytest.mark.asyncio(loop_scope="module")

RETRY_SECONDS = 120.0
QUERY = "Where is the grey kayak?"


@dataclass
class Served:
    """Two APIs with snapshots and one without, on one database."""

    server: FaultyServer
    keeping: list[httpx2.AsyncClient]
    scanning: httpx2.AsyncClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    server = FaultyServer(tmp_path_factory.mktemp("snapshots") / "data")
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            service_on(server, workers=1, snapshot_memory_mb=64)
        )
        urls = [first.base_url]
        for name, memory in (("second", 64), ("scanning", 0)):
            port = free_port()
            await stack.enter_async_context(
                process_of(
                    *(None, API_MODULE),
                    name=name,
                    sink=lambda _name, _line: None,
                    database_url=SecretStr(first.database_url),
                    host="127.0.0.1",
                    port=port,
                    snapshot_memory_mb=memory,
                )
            )
            urls.append(f"http://127.0.0.1:{port}")
        clients = [
            await stack.enter_async_context(
                httpx2.AsyncClient(base_url=url + BASE_PATH, trust_env=False, timeout=30)
            )
            for url in urls
        ]
        for client in clients:
            await _until_ready(client)
            await until_recall_is_warm(client)
        yield Served(server, clients[:2], clients[2])


async def _until_ready(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)


async def _write(client: httpx2.AsyncClient, user: str, text: str) -> None:
    response = await client.post("/blocks", json={"user_id": user, "content": text})
    assert response.status_code == 202, response.text


async def _search(client: httpx2.AsyncClient, user: str, **fields: Any) -> dict[str, float]:
    """Scores by text. Retried until nothing was left out: a busy machine exceeds its time."""
    body = {"user_id": user, "query": QUERY, "limit": 50} | fields
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            response = await client.post("/search", json=body)
            if response.status_code == 200 and not response.json()["degraded"]:
                return {hit["block"]["content"]: hit["score"] for hit in response.json()["results"]}
            await asyncio.sleep(0.1)


async def _outcomes(client: httpx2.AsyncClient) -> dict[str, float]:
    text = (await client.get("/metrics")).text
    found = re.findall(r'^luma_snapshot_outcomes_total\{outcome="(\w+)"\} (\S+)', text, re.M)
    return {name: float(value) for name, value in found}


async def _kept(client: httpx2.AsyncClient) -> float:
    (value,) = re.findall(r"^luma_snapshots (\S+)", (await client.get("/metrics")).text, re.M)
    return float(value)


async def _until_used(served: Served, user: str) -> None:
    """Search until both processes use a snapshot of the user's scope."""
    for client in served.keeping:
        before = (await _outcomes(client)).get("used", 0.0)
        async with asyncio.timeout(RETRY_SECONDS):
            while (await _outcomes(client)).get("used", 0.0) == before:
                await _search(client, user)


async def _assert_equal(served: Served, user: str, **fields: Any) -> None:
    """Both processes find what a scan finds. A worker may store a vector between two searches:
    then the scan finds something else afterwards, and all are repeated."""
    for client in served.keeping:
        async with asyncio.timeout(RETRY_SECONDS):
            expected, later = None, await _search(served.scanning, user, **fields)
            while expected is None or later != pytest.approx(expected, abs=1e-7):
                expected = later
                found = await _search(client, user, **fields)
                later = await _search(served.scanning, user, **fields)
        assert found == pytest.approx(expected, abs=1e-6)


async def test_writes_and_searches_in_turns_at_two_processes(served: Served) -> None:
    await _write(served.keeping[0], "ada", "The grey kayak is in the garage.")
    await until_idle(served.scanning)
    await _until_used(served, "ada")
    loads = [(await _outcomes(client))["loaded"] for client in served.keeping]
    for number in range(8):
        await _write(served.keeping[number % 2], "ada", f"Kayak number {number} was sold.")
        for client in served.keeping:
            assert f"Kayak number {number} was sold." in await _search(client, "ada")
    await until_idle(served.scanning)
    await _assert_equal(served, "ada")
    await _assert_equal(served, "ada", include_superseded=True)
    await _assert_equal(served, "ada", filters={"status": "active"})
    assert [(await _outcomes(client))["loaded"] for client in served.keeping] == loads


async def test_after_a_kill_of_postgresql_nothing_stale_is_returned(served: Served) -> None:
    await _write(served.keeping[0], "bea", "The grey kayak is in the garage.")
    await until_idle(served.scanning)
    await _until_used(served, "bea")
    await _write(served.keeping[1], "bea", "The grey kayak is at the harbor.")
    before = [(await _outcomes(client))["scanned"] for client in served.keeping]
    await served.server.kill()
    await served.server.start_again()
    for client in [*served.keeping, served.scanning]:
        await _until_ready(client)
    for client, scans in zip(served.keeping, before, strict=True):
        await _search(client, "bea")
        assert (await _outcomes(client))["scanned"] > scans  # the log did not reach back
    await until_idle(served.scanning)
    await _assert_equal(served, "bea")
    await _write(served.keeping[0], "bea", "The grey kayak was sold.")
    await _assert_equal(served, "bea")
    await _until_used(served, "bea")
    await _assert_equal(served, "bea")


async def test_an_erased_user_is_dropped_by_every_process(served: Served) -> None:
    for user in ("cleo", "dora"):
        await _write(served.keeping[0], user, "The grey kayak is in the garage.")
    await until_idle(served.scanning)
    before = [await _kept(client) for client in served.keeping]
    for user in ("cleo", "dora"):
        await _until_used(served, user)
    assert [await _kept(client) for client in served.keeping] == [n + 2 for n in before]
    response = await served.keeping[0].delete("/users/cleo")
    assert response.status_code in (200, 202, 204), response.text
    for client, count in zip(served.keeping, before, strict=True):
        async with asyncio.timeout(RETRY_SECONDS):
            while await _kept(client) > count + 1:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert await _search(client, "cleo") == {}
