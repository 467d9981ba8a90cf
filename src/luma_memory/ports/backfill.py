"""Blocks whose enrichment is pending a backfill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from luma_memory.domain.enrichment import PendingBackfillCounts


class BackfillStore(Protocol):
    """Active blocks that something is owed to. All methods raise StoreUnavailable."""

    async def enqueue_due(self, *, open_max: int, circuits: Sequence[str]) -> int:
        """Jobs for what is due, while fewer than that many wait; how many were made.

        None while one of these circuits is open.
        """
        ...

    async def request(self, *, project_id: str | None, user_id: str | None, limit: int) -> int:
        """Make due what is owed later or when asked, for up to `limit` blocks; how many."""
        ...

    async def pending_counts(
        self, *, project_id: str | None, user_id: str | None
    ) -> PendingBackfillCounts:
        """How many blocks are owed something."""
        ...
