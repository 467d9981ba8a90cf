"""Clients that continue through every outage, and a ledger of the accepted requests.

A sender repeats each request with its idempotency key until it gets a response.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from tests.support.service import BASE_PATH, all_blocks

from luma_memory.cli.processes import Stack

_RESPONSE_SECONDS = 15.0
_AGAIN_SECONDS = 0.05
_RETRY_SECONDS = 120.0


@asynccontextmanager
async def client_of(stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    """Speaks to the stack's API; paths are relative to its base path."""
    async with httpx2.AsyncClient(
        base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=_RESPONSE_SECONDS
    ) as client:
        yield client


class Ledger:
    """Block ids that were accepted, by the idempotency key they were sent with."""

    def __init__(self, name: str, *, users: int = 5) -> None:
        self.name = name
        self.users = [f"{name}-user-{n}" for n in range(users)]
        self.accepted: dict[str, str] = {}
        self._grown = asyncio.Condition()

    async def enter(self, key: str, block_id: str) -> None:
        async with self._grown:
            self.accepted[key] = block_id
            self._grown.notify_all()

    async def grow_by(self, count: int) -> None:
        """Wait until `count` more blocks were accepted."""
        goal = len(self.accepted) + count
        async with self._grown, asyncio.timeout(_RETRY_SECONDS):
            await self._grown.wait_for(lambda: len(self.accepted) >= goal)


@asynccontextmanager
async def load(
    stack: Stack, ledger: Ledger, *, senders: int, pace_seconds: float
) -> AsyncIterator[None]:
    """Send while the block runs. At its end every request has its answer.

    pace_seconds: between two blocks of one sender.
    """
    stop = asyncio.Event()
    tasks = [
        asyncio.create_task(_send(stack, number, ledger, stop, pace_seconds))
        for number in range(senders)
    ]
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(_RETRY_SECONDS):
            await asyncio.gather(*tasks)


async def _send(
    stack: Stack, sender: int, ledger: Ledger, stop: asyncio.Event, pace_seconds: float
) -> None:
    number = 0
    async with client_of(stack) as client:
        while not stop.is_set():
            key = f"{ledger.name}-{sender}-{number}"
            user_id = ledger.users[number % len(ledger.users)]
            await ledger.enter(key, await _accepted_id(client, key, user_id))
            number += 1
            await asyncio.sleep(pace_seconds)


async def _accepted_id(client: httpx2.AsyncClient, key: str, user_id: str) -> str:
    body = {"user_id": user_id, "content": f"Sender and number {key} met at the old lighthouse."}
    while True:
        try:
            response = await client.post("/blocks", json=body, headers={"Idempotency-Key": key})
        except httpx2.TransportError:
            await asyncio.sleep(_AGAIN_SECONDS)
            continue
        if response.status_code in (201, 202):  # 201: enriched before the response
            return str(response.json()["id"])
        assert response.status_code == 503, response.text
        await asyncio.sleep(_AGAIN_SECONDS)


async def blocks_of(client: httpx2.AsyncClient, users: Sequence[str]) -> list[dict[str, Any]]:
    """Every block of these users."""
    return [block for user_id in users for block in await all_blocks(client, user_id)]


async def until_settled(
    client: httpx2.AsyncClient, *, timeout_seconds: float = _RETRY_SECONDS
) -> float:
    """Wait until no job is pending or processing; how many seconds that took."""
    started = time.monotonic()
    async with asyncio.timeout(timeout_seconds):
        while not await _is_settled(client):  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.1)
    return time.monotonic() - started


async def _is_settled(client: httpx2.AsyncClient) -> bool:
    try:
        stats = (await client.get("/health")).json()["queue_stats"]
    except httpx2.TransportError:
        return False
    return stats is not None and stats["pending"] + stats["processing"] == 0


async def assert_promises_kept(client: httpx2.AsyncClient, ledger: Ledger) -> None:
    """Everything that was accepted is active, nothing is there twice, and nothing else is there."""
    stored = await blocks_of(client, ledger.users)
    assert Counter(block["status"] for block in stored) == {"active": len(stored)}
    by_content = Counter(block["content"] for block in stored)
    assert [content for content, count in by_content.items() if count > 1] == []
    assert set(ledger.accepted.values()) - {block["id"] for block in stored} == set()
    assert len(stored) == len(ledger.accepted)
