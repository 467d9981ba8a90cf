"""The read model behind health, statistics, the command line and metrics."""

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
from luma_memory.domain.partition import PartitionFault
from luma_memory.ports.cache import Cache, CacheHits
from luma_memory.ports.circuits import CircuitFault
from luma_memory.ports.jobs import JobQueue
from luma_memory.ports.system import SystemProbe
from luma_memory.ports.vector_models import ReembedState

ResultT = TypeVar("ResultT")
# Health responds in under a second whatever hangs; its queries run concurrently.
PROBE_SECONDS = 0.7


@dataclass(frozen=True, slots=True)
class CacheReport:
    """The context cache: this process's connection, and the hit rate of all processes."""

    facts: CacheFacts
    counts: CacheCounts | None  # of the last 24 hours; None: unknown, the database did not respond

    @property
    def hit_rate(self) -> float | None:
        """Between 0 and 1; None without reads."""
        return self.counts.hit_rate if self.counts is not None else None


@dataclass(frozen=True, slots=True)
class Health:
    """The whole system at a glance."""

    status: Literal["ok", "degraded", "unavailable"]
    system_enabled: bool
    worker_expected: bool
    workers: int | None  # None: unknown
    stats: JobStats | None  # None: unknown
    database: Literal["ok", "unavailable"]
    cache: CacheReport
    uptime_seconds: int
    provider_faults: Sequence[CircuitFault] = ()
    partition_faults: Sequence[PartitionFault] = ()
    replica_is_used: bool | None = None  # by this process; None without one
    reembedding: ReembedState | None = None  # None without a change of the embedding model


class Insights:
    """Reads within PROBE_SECONDS and never raises for an unavailable component.

    reembedding: the change of the embedding model in progress.
    is_warming: whether this process still loads data that its first requests would wait for.
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
        reembedding: Callable[[], Awaitable[ReembedState | None]],
        is_warming: Callable[[], bool] = lambda: False,
    ) -> None:
        self._queue = queue
        self._probe = probe
        self._cache = cache
        self._hits = hits
        self._clock = clock
        self._system_enabled = system_enabled
        self._worker_enabled = worker_enabled
        self._reembedding = reembedding
        self._is_warming = is_warming
        self._started = clock.monotonic()

    async def health(self) -> Health:
        """The state of the service, whatever is unavailable."""
        stats, workers, faults, reembedding, cache = await asyncio.gather(
            _or_none(self._queue.stats()),
            _or_none(self._probe.live_worker_count()),
            _or_none(self._probe.provider_faults()),
            _or_none(self._reembedding()),
            self.cache(),
        )
        # The statistics asked every partition.
        partition_faults = self._probe.partition_faults()
        return Health(
            status=self._status(stats, workers, [*(faults or ()), *partition_faults]),
            system_enabled=self._system_enabled,
            worker_expected=self._worker_enabled,
            workers=workers,
            stats=stats,
            database="ok" if stats is not None else "unavailable",
            cache=cache,
            uptime_seconds=round(self._clock.monotonic() - self._started),
            provider_faults=faults or (),
            partition_faults=partition_faults,
            replica_is_used=self._probe.replica_is_used(),
            reembedding=reembedding,
        )

    async def cache(self) -> CacheReport:
        """The connection and the hit rate of the context cache."""
        facts, counts = await asyncio.gather(self._cache.facts(), _or_none(self._hits.last_day()))
        return CacheReport(facts, counts)

    async def missing(self) -> list[str]:
        """What this process needs before it can serve requests; empty when it is ready."""
        current = await _or_none(self._probe.schema_is_current())
        missing = ["language data"] if self._is_warming() else []
        if current is None:
            return ["database", *missing]
        return missing if current else ["schema", *missing]

    def _status(
        self, stats: JobStats | None, workers: int | None, faults: Sequence[object]
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
