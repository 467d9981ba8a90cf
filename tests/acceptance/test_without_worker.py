"""MEMORY_WORKER_ENABLED=false: no worker runs, and every accepted block ends all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from tests.support.servers import Servers
from tests.support.stacks import running_service

from luma_memory.cli.processes import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(servers: Servers) -> AsyncIterator[Stack]:
    async with running_service(servers, worker_enabled=False) as running:
        yield running


async def test_no_worker_is_started_and_none_is_missed(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    assert list(stack.children) == ["api"]
    health = (await client.get("/health")).json()
    assert (health["status"], health["worker_running"]) == ("ok", False)


async def test_a_block_is_enriched_before_the_response(client: httpx2.AsyncClient) -> None:
    response = await client.post("/blocks", json={"user_id": "ada", "content": "Ada likes tea."})
    assert (response.status_code, response.json()["status"]) == (201, "active")


async def test_a_batch_is_enriched_before_the_response(client: httpx2.AsyncClient) -> None:
    blocks = [{"user_id": "ada", "content": f"Ada drank tea number {n}."} for n in range(20)]
    response = await client.post("/blocks/batch", json={"blocks": [*blocks, {"user_id": "ada"}]})
    assert response.status_code == 201
    assert (response.json()["accepted"], response.json()["rejected"]) == (20, 1)
    assert {item.get("status") for item in response.json()["results"][:20]} == {"active"}
    page = (await client.get("/blocks", params={"user_id": "ada"})).json()
    assert {block["status"] for block in page["blocks"]} == {"active"}
