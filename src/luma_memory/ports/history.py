"""The stored history of the service's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from luma_memory.domain.history import Resolution


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A minute or hour that something was counted in."""

    at: datetime  # its start
    sums: Mapping[str, float]
    peaks: Mapping[str, float]


class HistoryStore(Protocol):
    """All methods raise StoreUnavailable."""

    async def add(self, sums: Mapping[str, float], peaks: Mapping[str, float]) -> bool:
        """Add to the current minute and hour; True for the process that began the minute."""
        ...

    async def read(
        self, resolution: Resolution, *, since: datetime, until: datetime
    ) -> Sequence[HistoryRow]:
        """Rows that start from `since` on and before `until`, oldest first."""
        ...
