"""The one reading service behind health, the command line and, later, dashboard and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from luma_memory.concurrency.deadline import within
from luma_memory.domain.cache import CacheCounts, CacheFacts
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.job import JobStats
from luma_memory.ports.cache import Cache, CacheHits
from luma_memory.ports.circuits import CircuitFault
from luma_memory.ports.jobs import JobQueue
from luma_memory.ports.system import SystemProbe

ResultT = TypeVar("ResultT")
# Health answers in under a second whatever hangs; its questions run side by side.
PROBE_SECONDS = 0.7


@dataclass(frozen=True, slots=True)
class CacheReport:
    """The context cache: this process's connection, and the answers of all processes."""

    facts: CacheFacts
    counts: CacheCounts | None  # of the last 24 hours; None: the database could not be asked

    @property
    def hit_rate(self) -> float | None:
        """0..1, None without reads."""
        return self.counts.hit_rate if self.counts is not None else None


@dataclass(frozen=True, slots=True)
class Health:
    """The whole system at a glance."""

    status: Literal["ok", "degraded", "unavailable"]
    system_enabled: bool
    worker_expected: bool
    workers: int | None  # None: could not be asked
    stats: JobStats | None  # None: could not be asked
    database: Literal["ok", "unavailable"]
    cache: CacheReport
    uptime_seconds: int
    provider_faults: Sequence[CircuitFault] = ()


class Insights:
    """Reads; never waits longer than PROBE_SECONDS, never raises for what it reports on.

    is_warming: whether this process still loads what its first answers would have to wait for.
    """

    def __init__(
        self,
        queue: JobQueue,
        probe: SystemProbe,
        *,
        cache: Cache,
        hits: CacheHits,
        clock: Clock,
        system_enabled: bool,
        worker_enabled: bool,
        is_warming: Callable[[], bool] = lambda: False,
    ) -> None:
        self._queue = queue
        self._probe = probe
        self._cache = cache
        self._hits = hits
        self._clock = clock
        self._system_enabled = system_enabled
        self._worker_enabled = worker_enabled
        self._is_warming = is_warming
        self._started = clock.monotonic()

    async def health(self) -> Health:
        """How things are, also when the answer is bad."""
        stats, workers, faults, cache = await asyncio.gather(
            _or_none(self._queue.stats()),
            _or_none(self._probe.live_worker_count()),
            _or_none(self._probe.provider_faults()),
            self.cache(),
        )
        return Health(
            status=self._status(stats, workers, faults or ()),
            system_enabled=self._system_enabled,
            worker_expected=self._worker_enabled,
            workers=workers,
            stats=stats,
            database="ok" if stats is not None else "unavailable",
            cache=cache,
            uptime_seconds=round(self._clock.monotonic() - self._started),
            provider_faults=faults or (),
        )

    async def cache(self) -> CacheReport:
        """How the context cache is, and how often it had the answer."""
        facts, counts = await asyncio.gather(self._cache.facts(), _or_none(self._hits.last_day()))
        return CacheReport(facts, counts)

    async def missing(self) -> list[str]:
        """What keeps this process from serving requests; empty when it is ready."""
        current = await _or_none(self._probe.schema_is_current())
        missing = ["language data"] if self._is_warming() else []
        if current is None:
            return ["database", *missing]
        return missing if current else ["schema", *missing]

    def _status(
        self, stats: JobStats | None, workers: int | None, faults: Sequence[CircuitFault]
    ) -> Literal["ok", "degraded", "unavailable"]:
        if stats is None:
            return "unavailable"
        is_whole = self._system_enabled and (workers or not self._worker_enabled)
        return "ok" if is_whole and not faults else "degraded"


async def _or_none(question: Awaitable[ResultT]) -> ResultT | None:
    try:
        return await within(question, PROBE_SECONDS)
    except (LumaMemoryError, TimeoutError):
        return None
