"""Usage and cost of the providers, by day, operation and model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, timedelta

from luma_memory.domain.clock import Clock
from luma_memory.domain.usage import Spent, UsageFilter, UsageReport
from luma_memory.ports.accounts import Prices, UsageStore

# Several years with a few models per day.
LINES_MAX = 10_000
DAYS_DEFAULT = 30


class UsageReports:
    """prices: loaded in a thread at the first report."""

    def __init__(self, store: UsageStore, *, prices: Callable[[], Prices], clock: Clock) -> None:
        self._store = store
        self._make_prices = prices
        self._prices: Prices | None = None
        self._clock = clock

    def period(self, since: date | None, until: date | None) -> tuple[date, date]:
        """The period; by default the 30 days that end today (UTC)."""
        until = until or self._clock.now().astimezone(UTC).date()
        return since or until - timedelta(days=DAYS_DEFAULT - 1), until

    async def report(self, which: UsageFilter) -> UsageReport:
        """Raises StoreUnavailable."""
        lines = await self._store.lines(which, limit=LINES_MAX)
        if self._prices is None:
            self._prices = await asyncio.to_thread(self._make_prices)
        prices, total = self._prices, Spent()
        by_operation: dict[str, Spent] = {}
        for line in lines:
            total = total.plus(line.spent)
            of_its_kind = by_operation.get(line.key.operation, Spent())
            by_operation[line.key.operation] = of_its_kind.plus(line.spent)
        # Calls without a response used no tokens.
        models = {line.key.model for line in lines if line.spent.tokens}
        return UsageReport(
            lines=lines,
            total=total,
            by_operation=by_operation,
            unpriced_models=sorted(model for model in models if not prices.knows(model)),
            prices=prices.table,
        )
