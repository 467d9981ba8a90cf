"""Blocks whose enrichment is pending a backfill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from luma_memory.domain.enrichment import PendingBackfillCounts


class BackfillStore(Protocol):
    """Active blocks with a pending backfill. All methods raise StoreUnavailable."""

    async def enqueue_due(self, *, open_max: int, circuits: Sequence[str]) -> int:
        """Enqueue jobs for due backfills, up to `open_max` pending ones; returns how many.

        Enqueues none while one of these circuits is open.
        """
        ...

    async def request(self, *, project_id: str | None, user_id: str | None, limit: int) -> int:
        """Make later and on-request backfills due, for up to `limit` blocks; returns how many."""
        ...

    async def pending_counts(
        self, *, project_id: str | None, user_id: str | None
    ) -> PendingBackfillCounts:
        """How many blocks have a pending backfill."""
        ...
