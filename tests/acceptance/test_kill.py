"""kill -9 at random moments under load: no accepted block is lost, nothing visibly happens twice.

The test keeps its own ledger: the id of every 202 response, by the idempotency key of its request.
Senders continue through the outages as a careful client would: they repeat a request with its key
until it gets a response.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from tests.support.partitions import fetch_everywhere
from tests.support.servers import Servers
from tests.support.service import BASE_PATH, all_blocks, until_idle
from tests.support.stacks import running_service

from luma_memory.cli.processes import API, Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

KILLS = 20
SENDERS = 3
# Between two blocks of one sender: slow enough for one worker to keep up with all of them.
PACE_SECONDS = 0.04
USERS = [f"user-{n}" for n in range(5)]
WORKERS = ["worker-1", "worker-2"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(servers: Servers) -> AsyncIterator[Stack]:
    async with running_service(servers, workers=len(WORKERS)) as running:
        yield running


class Ledger:
    """What was promised: block ids by idempotency key, and a signal for each new one."""

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}
        self._grown = asyncio.Condition()

    async def enter(self, key: str, block_id: str) -> None:
        async with self._grown:
            self.accepted[key] = block_id
            self._grown.notify_all()

    async def grow_by(self, count: int) -> None:
        """Wait until `count` more blocks were accepted."""
        goal = len(self.accepted) + count
        async with self._grown, asyncio.timeout(120):
            await self._grown.wait_for(lambda: len(self.accepted) >= goal)


async def send(stack: Stack, sender: int, ledger: Ledger, stop: asyncio.Event) -> None:
    number = 0
    async with httpx2.AsyncClient(
        base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=10
    ) as client:
        while not stop.is_set():
            key = f"{sender}-{number}"
            await ledger.enter(key, await accepted_id(client, key, USERS[number % len(USERS)]))
            number += 1
            await asyncio.sleep(PACE_SECONDS)


async def accepted_id(client: httpx2.AsyncClient, key: str, user_id: str) -> str:
    body = {"user_id": user_id, "content": f"Sender and number {key} met at the old lighthouse."}
    while True:
        try:
            response = await client.post("/blocks", json=body, headers={"Idempotency-Key": key})
        except httpx2.TransportError:
            await asyncio.sleep(0.05)
            continue
        if response.status_code == 202:
            return str(response.json()["id"])
        assert response.status_code == 503, response.text


async def test_nothing_is_lost_or_done_twice(stack: Stack) -> None:
    chance = random.Random(20_261_123)
    ledger, stop = Ledger(), asyncio.Event()
    senders = [asyncio.create_task(send(stack, n, ledger, stop)) for n in range(SENDERS)]
    for _ in range(KILLS):
        await ledger.grow_by(chance.randint(1, 40))
        victim = chance.choice([API, *WORKERS])
        stack.children[victim].signal(signal.SIGKILL)
        await stack.restart(victim)
        await stack.ready()
    stop.set()
    await asyncio.gather(*senders)

    async with httpx2.AsyncClient(
        base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=30
    ) as client:
        stats = await until_idle(client)
        stored = [block for user_id in USERS for block in await all_blocks(client, user_id)]

    assert len(ledger.accepted) > 2 * KILLS
    assert Counter(block["status"] for block in stored) == {"active": len(stored)}
    by_content = Counter(block["content"] for block in stored)
    assert [content for content, count in by_content.items() if count > 1] == []
    missing = set(ledger.accepted.values()) - {block["id"] for block in stored}
    assert missing == set()
    # Nothing else either: a request without a response was repeated until it got one.
    assert len(stored) == len(ledger.accepted)
    assert stats["failed"] == 0
    assert stats["completed"] == len(stored)
    assert await enrichments_done_again(stack) == []


async def enrichments_done_again(stack: Stack) -> list[str]:
    """Blocks whose enrichment was written more than once: each further time leaves a revision."""
    rows = await fetch_everywhere(stack.database_url, "SELECT block_id FROM memory_block_revisions")
    return [str(row["block_id"]) for row in rows]
