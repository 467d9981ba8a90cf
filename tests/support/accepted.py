"""Blocks that were accepted while something happened, and whether each is there once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from tests.support.service import all_blocks

_ACTIVE_SECONDS = 60.0


@dataclass
class Ledger:
    """The accepted blocks of each user, and how long the slowest write of each partition took."""

    accepted: dict[str, list[str]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    stage: str = ""  # what is happening, for messages

    async def write(self, client: httpx2.AsyncClient, user: str, number: int) -> None:
        """Until it is accepted: with the same key, so that a repetition is the same block."""
        body = {"user_id": user, "content": f"{user} wrote line {number}."}
        began = time.monotonic()
        while True:
            try:
                response = await client.post(
                    "/blocks", json=body, headers={"Idempotency-Key": f"{user}-{number}"}
                )
            except httpx2.TimeoutException:
                self.refused["no response in time"] += 1
                continue
            if response.is_success:
                break
            assert response.status_code == 503, response.text
            self.refused[response.json()["code"]] += 1
            await asyncio.sleep(0.1)
        self.accepted.setdefault(user, []).append(response.json()["id"])
        self.slowest[user] = max(self.slowest.get(user, 0.0), time.monotonic() - began)

    def longest(self, users: Sequence[str]) -> float:
        return max(self.slowest[user] for user in users)

    async def check(self, client: httpx2.AsyncClient) -> None:
        """Every accepted block is there once and enriched."""
        for user, accepted in self.accepted.items():
            blocks = await _settled(client, user)
            states = Counter(block["status"] for block in blocks)
            assert set(states) == {"active"}, (user, states, len(accepted))
            found = [block["id"] for block in blocks]
            assert Counter(found) == Counter(accepted), user


async def _settled(client: httpx2.AsyncClient, user: str) -> list[dict[str, Any]]:
    """The user's blocks once none is pending: counts of the queue, by which tests wait, leave out a
    partition that takes long to respond."""
    async with asyncio.timeout(_ACTIVE_SECONDS):
        while True:
            blocks = await all_blocks(client, user)
            if all(block["status"] != "pending_enrichment" for block in blocks):
                return blocks
            await asyncio.sleep(0.2)
