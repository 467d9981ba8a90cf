"""A clock that only moves on request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class MovedClock:
    """domain.clock.Clock; both of its times move together."""

    def __init__(self) -> None:
        self._passed = timedelta()
        self._start = datetime(2026, 3, 4, 18, 30, tzinfo=UTC)

    def now(self) -> datetime:
        return self._start + self._passed

    def monotonic(self) -> float:
        return self._passed.total_seconds()

    def move(self, *, seconds: float) -> None:
        self._passed += timedelta(seconds=seconds)
