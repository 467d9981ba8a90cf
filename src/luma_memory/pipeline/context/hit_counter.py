"""Hit rate of the context cache, counted here and summed over all processes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from luma_memory.domain.cache import CacheCounts
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.ports.cache import CacheLedger
from luma_memory.telemetry.events import CacheUsed, Emit

# The most that a killed process loses.
WRITE_EVERY_SECONDS = 10.0
WINDOW = timedelta(hours=24)
# The database may be unavailable for long; older counts are outside the reported window.
_HOURS_KEPT = 26


class HitCounter:
    """Counts in memory; logs and writes the counts every WRITE_EVERY_SECONDS."""

    def __init__(self, ledger: CacheLedger, *, clock: Clock, emit: Emit) -> None:
        self._ledger = ledger
        self._emit = emit
        self._unlogged = CacheCounts()
        self._clock = clock
        self._counts: dict[datetime, CacheCounts] = {}
        self._writer: asyncio.Task[None] | None = None

    def count(self, counted: CacheCounts) -> None:
        """Add to this hour. Never blocks; the first call starts the writer."""
        hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        self._counts[hour] = self._counts.get(hour, CacheCounts()) + counted
        self._unlogged += counted
        if len(self._counts) > _HOURS_KEPT:
            del self._counts[min(self._counts)]
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_periodically())

    async def write(self) -> None:
        """Write the counts. Raises StoreUnavailable and keeps them for the next write.

        A write whose confirmation was lost is counted twice, which a rate can tolerate.
        """
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            await self._ledger.add(counts)
        except BaseException:
            for hour, counted in counts.items():
                self._counts[hour] = self._counts.get(hour, CacheCounts()) + counted
            raise

    async def last_day(self) -> CacheCounts:
        """The counts of the last 24 full hours and the current one, of all processes.

        The last ten seconds of other processes may be missing. Raises StoreUnavailable.
        """
        await self.write()
        return await self._ledger.since(self._clock.now() - WINDOW)

    async def close(self) -> None:
        """Write the remaining counts, if the database is available. Idempotent."""
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        self._log()
        try:
            await self.write()
        except LumaMemoryError:
            return

    def _log(self) -> None:
        unlogged, self._unlogged = self._unlogged, CacheCounts()
        if unlogged != CacheCounts():
            self._emit(CacheUsed(unlogged.hits, unlogged.misses))

    async def _write_periodically(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            self._log()
            try:
                await self.write()
            except LumaMemoryError:
                continue  # kept for the next time
