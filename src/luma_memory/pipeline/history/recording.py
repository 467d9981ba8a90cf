"""Store what a process counts, and read the history of all processes.

Every process adds its counts to the row of the current minute. The one that began the row adds the
states of the whole installation, so that they are read once a minute however many processes run.
A killed process loses the counts of some seconds; while the database is unavailable, counts wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.history import BUCKETS, KEPT, History, Resolution
from luma_memory.ports.history import HistoryRow, HistoryStore
from luma_memory.telemetry.history import COUNTS, LATENCIES, HistoryCounts, percentile

STORE_SECONDS: Final = 10.0
# A process that counts nothing still begins its minutes, for the states.
IDLE_ROUNDS: Final = 6
PERCENTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
STATES: Final[Sequence[str]] = (
    *("jobs_pending", "jobs_processing", "jobs_failed"),
    *("oldest_pending_seconds", "workers", "open_circuits"),
)


class HistoryRecorder:
    """states: reads those of the installation, by the names of STATES."""

    def __init__(
        self,
        store: HistoryStore,
        counts: HistoryCounts,
        states: Callable[[], Awaitable[Mapping[str, float]]],
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._counts = counts
        self._states = states
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def read(
        self, resolution: Resolution, *, since: datetime | None, until: datetime | None
    ) -> History:
        """The buckets between two instants, at most those kept. Raises StoreUnavailable."""
        now, bucket = self._clock.now(), BUCKETS[resolution]
        first = now - KEPT[resolution]
        if since is not None:
            first = max(since, first)
        start, stop = _floor(first, bucket.total_seconds()), min(until or now, now)
        rows = await self._store.read(resolution, since=start, until=stop)
        count = max(0, -int((start - stop) // bucket))
        times = [start + bucket * n for n in range(count)]
        return History(resolution, times, _series(times, {row.at: row for row in rows}))

    async def start(self) -> None:
        """Start to store counts. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._store_often(), name="history")

    async def close(self) -> None:
        """Store the remaining counts. Idempotent; harmless before start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.store()

    async def store(self) -> None:
        """Store what was counted since the last time; a failure leaves it for the next."""
        taken = self._counts.take()
        try:
            began = await self._store.add(taken, {})
        except LumaMemoryError:
            self._counts.put_back(taken)
            return
        if began:
            # A minute without states is a gap in a chart, and not worth an error.
            with contextlib.suppress(LumaMemoryError):
                await self._store.add({}, await self._states())

    async def _store_often(self) -> None:
        idle = 0
        while True:
            await asyncio.sleep(STORE_SECONDS)
            idle = 0 if self._counts.has_any else idle + 1
            if idle % IDLE_ROUNDS == 0:
                await self.store()


def _floor(instant: datetime, seconds: float) -> datetime:
    return datetime.fromtimestamp(instant.timestamp() // seconds * seconds, UTC)


def _series(
    times: Sequence[datetime], rows: Mapping[datetime, HistoryRow]
) -> Mapping[str, Sequence[float | None]]:
    found = [rows.get(at) for at in times]
    series: dict[str, Sequence[float | None]] = {
        name: [None if row is None else row.sums.get(name, 0) for row in found] for name in COUNTS
    }
    for name in LATENCIES:
        ranges = [{} if row is None else _ranges(row, name) for row in found]
        for label, share in PERCENTILES.items():
            series[f"{name}_{label}"] = [_rounded(percentile(each, share)) for each in ranges]
    for name in STATES:
        series[name] = [None if row is None else row.peaks.get(name) for row in found]
    return series


def _ranges(row: HistoryRow, name: str) -> Mapping[int, float]:
    start = f"{name}:"
    return {
        int(key.removeprefix(start)): count
        for key, count in row.sums.items()
        if key.startswith(start)
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
