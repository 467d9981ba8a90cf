"""Record the usage of providers, and defer jobs of users who have used up their daily budget."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.concurrency.parted import Batches, parted
from luma_memory.concurrency.retries import retry_until
from luma_memory.domain.clock import Clock
from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.errors import StoreUnavailable, is_outage
from luma_memory.domain.scope import Scope
from luma_memory.domain.usage import DailyLimits, Operation, Spent, UsageEntry, UsageKey
from luma_memory.ports.accounts import Prices, UsageStore

RETRY_SECONDS = 60.0
# Pause between two statements; without it, a busy worker would send one for every few blocks.
PAUSE_SECONDS = 0.25
READ_BATCH_MAX = 200
# A raised limit, or midnight, takes effect within this time.
DEFER_MAX = timedelta(hours=1)
# Until the calls of running jobs are counted.
DEFER_FOR_RUNNING = timedelta(seconds=5)
# Enrichment and embedding.
CALLS_PER_JOB = 2


class Spending:
    """Records usage and enforces daily limits.

    Entries are written in the background, many per statement. A limit counts all written entries,
    and the unwritten ones and running jobs of this process. So with several workers, a user may
    exceed a limit by the running calls of the other workers.
    """

    def __init__(
        self,
        store: UsageStore,
        *,
        prices: Prices,
        limits: DailyLimits,
        clock: Clock,
        part_of: Callable[[Scope], int] | None = None,
    ) -> None:
        self._store = store
        self._prices = prices
        self._limits = limits
        self._clock = clock
        self._waiting: dict[UsageKey, Spent] = {}
        self._writing: dict[UsageKey, Spent] = {}
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._running: Counter[Scope] = Counter()
        self._reads: Batches[tuple[Scope, date], Spent] = parted(
            lambda: Coalescer(store.spent, items_max=READ_BATCH_MAX, is_shared=is_outage),
            None if part_of is None else lambda key: part_of(key[0]),
        )

    def record(
        self, scope: Scope, operation: Operation, calls: Sequence[ModelCall], *, blocks: int
    ) -> None:
        """Record calls; blocks: how many blocks they served. Never blocks and never raises.

        The blocks are recorded with the last call, the successful one.
        """
        day = self._clock.now().astimezone(UTC).date()
        for number, call in enumerate(calls, start=1):
            if call.is_local:
                continue
            key = UsageKey(day, scope, operation, call.model)
            one = Spent(
                1,
                call.input_tokens,
                call.output_tokens,
                self._prices.cost_usd(call) or Decimal(0),
                blocks if number == len(calls) else 0,
            )
            self._waiting[key] = self._waiting.get(key, Spent()).plus(one)
        if self._waiting and self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def admit(self, scope: Scope) -> datetime | None:
        """None: the user's job may call providers and must `leave` afterwards. Else the time to
        retry.

        Raises StoreUnavailable.
        """
        if not self._limits.any:
            return None
        now = self._clock.now().astimezone(UTC)
        spent = await self._reads.submit((scope, now.date()))
        for key, more in (*self._waiting.items(), *self._writing.items()):
            counts = key.operation != "reembedding"
            if counts and key.scope == scope and key.day == now.date():
                spent = spent.plus(more)
        if self._limits.reached_by(spent):
            midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
            return min(midnight, now + DEFER_MAX)
        expected = spent.plus(Spent(calls=self._running[scope] * CALLS_PER_JOB))
        if self._running[scope] and self._limits.reached_by(expected):
            return now + DEFER_FOR_RUNNING
        self._running[scope] += 1
        return None

    def leave(self, scope: Scope) -> None:
        """End an admitted job, after its calls were recorded."""
        if self._limits.any:
            self._running[scope] -= 1
            if self._running[scope] <= 0:
                del self._running[scope]

    async def close(self) -> None:
        """Write the remaining entries."""
        self._closing.set()
        while self._writer is not None:
            await asyncio.wait([self._writer])

    async def _pause(self) -> None:
        """Collect entries before the next statement; `close` ends the pause."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), PAUSE_SECONDS)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + RETRY_SECONDS
        try:
            while self._waiting and loop.time() < give_up_at:
                if await self._add_waiting():
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    give_up_at = loop.time() + RETRY_SECONDS
                    await self._pause()
        except StoreUnavailable:
            pass  # the entries are written with the next ones
        finally:
            self._writer = None

    async def _add_waiting(self) -> bool:
        """Write the entries; True if those of locked users are left. Raises StoreUnavailable."""
        self._writing, self._waiting = self._waiting, {}
        entries = [UsageEntry(key, spent) for key, spent in self._writing.items()]
        left: Collection[Scope] = {entry.key.scope for entry in entries}
        try:
            left = await retry_until(
                lambda: self._store.add(entries),
                retry_on=StoreUnavailable,
                timeout_seconds=RETRY_SECONDS,
            )
        finally:
            writing, self._writing = self._writing, {}
            for key, spent in writing.items():
                if key.scope in left:
                    self._waiting[key] = self._waiting.get(key, Spent()).plus(spent)
        return bool(left)
