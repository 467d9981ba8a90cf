"""How often the cache had the answer, counted here and summed over all processes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from luma_memory.domain.cache import CacheCounts
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.ports.cache import CacheLedger
from luma_memory.telemetry.events import CacheUsed, Emit

# What a process that is killed forgets at most.
WRITE_EVERY_SECONDS = 10.0
WINDOW = timedelta(hours=24)
# The database may be away for long; what was counted before these hours is told by nobody any more.
_HOURS_KEPT = 26


class HitCounter:
    """Counts in memory, told in the log and written to the ledger now and then."""

    def __init__(self, ledger: CacheLedger, *, clock: Clock, emit: Emit) -> None:
        self._ledger = ledger
        self._emit = emit
        self._untold = CacheCounts()
        self._clock = clock
        self._counts: dict[datetime, CacheCounts] = {}
        self._writer: asyncio.Task[None] | None = None

    def count(self, counted: CacheCounts) -> None:
        """Add to this hour. Never waits; the first call starts the writing."""
        hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        self._counts[hour] = self._counts.get(hour, CacheCounts()) + counted
        self._untold += counted
        if len(self._counts) > _HOURS_KEPT:
            del self._counts[min(self._counts)]
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_now_and_then())

    async def write(self) -> None:
        """Hand over what was counted. Raises StoreUnavailable: then it is kept for the next time.

        A write whose answer was lost is counted twice: this is a rate, not a bill.
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
        """Of the last 24 full hours and the current one, by all processes.

        Others' last ten seconds may be missing. Raises StoreUnavailable.
        """
        await self.write()
        return await self._ledger.since(self._clock.now() - WINDOW)

    async def close(self) -> None:
        """Write a last time, if the database is there. Repeating it is harmless."""
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        self._tell()
        try:
            await self.write()
        except LumaMemoryError:
            return

    def _tell(self) -> None:
        untold, self._untold = self._untold, CacheCounts()
        if untold != CacheCounts():
            self._emit(CacheUsed(untold.hits, untold.misses))

    async def _write_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            self._tell()
            try:
                await self.write()
            except LumaMemoryError:
                continue  # kept for the next time
