"""The stages of one search: time limits, skipped stages and durations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from luma_memory.domain.errors import LumaMemoryError, SearchTimeout
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit, RecallDegraded
from luma_memory.telemetry.logs import Stopwatch

ResultT = TypeVar("ResultT")

# A request waits this long for a provider, and then continues without it.
OPTIONAL_SECONDS_MAX = 2.0
# The share of a request's remaining time: the rest is for the scan, which every search needs.
OPTIONAL_SHARE = 0.6


class Stages:
    """Deadline, degraded stages and timings of one search."""

    def __init__(self, timeout_ms: int | None, emit: Emit) -> None:
        self._seconds = None if timeout_ms is None else timeout_ms / 1000
        self._emit = emit
        self._watch = Stopwatch()
        self._lap = Stopwatch()
        self.degraded: list[str] = []
        self.timings_ms: dict[str, float] = {}

    def ended(self, stage: str) -> None:
        """Add the time since the last stage ended to this one."""
        self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + self._lap.lap_ms()

    async def required(self, work: Awaitable[ResultT]) -> ResultT:
        """The result within the remaining time. Raises SearchTimeout."""
        if self._seconds is None:
            return await work
        try:
            async with asyncio.timeout(max(self._left(self._seconds), 0.0)):
                return await work
        except TimeoutError as error:
            raise SearchTimeout("The database did not respond within timeout_ms") from error

    async def optional(self, stage: str, work: Awaitable[ResultT]) -> ResultT | None:
        """The result; None, with the stage marked as degraded, if it fails or times out."""
        try:
            async with asyncio.timeout(self._optional_seconds()):
                return await work
        except TimeoutError as error:
            spans.current().failed(error)
            self._emit(RecallDegraded(stage, "no response in time"))
        except LumaMemoryError as error:
            spans.current().failed(error)
            self._emit(RecallDegraded(stage, str(error)))
        self.degraded.append(stage)
        return None

    def _optional_seconds(self) -> float:
        if self._seconds is None:
            return OPTIONAL_SECONDS_MAX
        return min(OPTIONAL_SECONDS_MAX, OPTIONAL_SHARE * max(self._left(self._seconds), 0.0))

    def _left(self, seconds: float) -> float:
        return seconds - self._watch.elapsed_ms / 1000
