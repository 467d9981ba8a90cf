"""What the programs have in common: calls of both sides in turn, and the wait for the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, TypeVar

import httpx

from benchmarks.comparison.facts import FACTS

ResultT = TypeVar("ResultT")

WAIT_SECONDS_MAX: Final = 600.0
_CHECK_SECONDS: Final = 0.02


@dataclass(slots=True)
class Sides:
    """Durations in milliseconds of one call on both sides: ours, theirs."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    async def add(
        self,
        ours: Callable[[], Awaitable[ResultT]],
        theirs: Callable[[], Awaitable[ResultT]],
    ) -> tuple[ResultT, ResultT]:
        """Measure both once, which is first in turn."""
        if len(self.ours) % 2:
            their_result = await self.add_theirs(theirs)
            return await self.add_ours(ours), their_result
        return await self.add_ours(ours), await self.add_theirs(theirs)

    async def add_ours(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        return await _timed(call, self.ours)

    async def add_theirs(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        return await _timed(call, self.theirs)

    def to_json(self) -> dict[str, float]:
        return {"ours": median(self.ours), "theirs": median(self.theirs)}


@dataclass(slots=True)
class RightResults:
    """How many questions had their own fact first: ours, theirs."""

    ours: int = 0
    theirs: int = 0

    def add(self, number: int, ours: Sequence[str], theirs: Sequence[str]) -> None:
        """Count the texts found for the question of FACTS[number], best first."""
        text = FACTS[number].text
        self.ours += ours[:1] == [text]
        self.theirs += theirs[:1] == [text]

    def to_json(self) -> dict[str, Any]:
        return {"ours": self.ours, "theirs": self.theirs, "of": len(FACTS)}


async def until_embedded(url: str) -> float:
    """Wait until the worker has nothing left to do; milliseconds waited."""
    started = time.perf_counter()
    async with httpx.AsyncClient() as client, asyncio.timeout(WAIT_SECONDS_MAX):
        while await _unfinished(client, url):  # noqa: ASYNC110 - another process's work
            await asyncio.sleep(_CHECK_SECONDS)
    return (time.perf_counter() - started) * 1000


async def _unfinished(client: httpx.AsyncClient, url: str) -> int:
    response = await client.get(f"{url}/api/v1/memory/jobs/stats")
    stats = response.raise_for_status().json()
    return int(stats["pending"] - stats["deferred"] + stats["processing"])


async def _timed(call: Callable[[], Awaitable[ResultT]], into: list[float]) -> ResultT:
    started = time.perf_counter()
    result = await call()
    into.append((time.perf_counter() - started) * 1000)
    return result
