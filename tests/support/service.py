"""Wait for the running service, and read what it holds."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

BASE_PATH = "/api/v1/memory"
RETRY_SECONDS = 120.0


async def until_idle(client: httpx2.AsyncClient) -> dict[str, int]:
    """Wait until no job is pending or processing; the queue's numbers then."""
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            stats: dict[str, int] | None = (await client.get("/health")).json()["queue_stats"]
            if stats is not None and stats["pending"] + stats["processing"] == 0:
                return stats
            await asyncio.sleep(0.1)


async def all_blocks(client: httpx2.AsyncClient, user_id: str) -> list[dict[str, Any]]:
    """Every block of a user, page by page."""
    blocks: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"user_id": user_id, "limit": "200"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/blocks", params=params)).json()
        blocks += page["blocks"]
        cursor = page["next_cursor"]
        if cursor is None:
            return blocks


async def until_recall_is_warm(client: httpx2.AsyncClient) -> None:
    """Ask until an answer lacks nothing: a first question may be too slow for some of its parts."""
    async with asyncio.timeout(RETRY_SECONDS):
        number = 0
        while True:
            body = {"user_id": "nobody", "query": f"Is it warm yet ({number})?"}
            response = await client.post("/context", json=body)
            if response.status_code == 200 and not response.json()["degraded"]:
                return
            number += 1
