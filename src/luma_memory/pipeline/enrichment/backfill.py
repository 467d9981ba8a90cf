"""Backfill blocks that lack a step: a provider failed, or the step was disabled."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.enrichment import PendingBackfillCounts
from luma_memory.ports.backfill import BackfillStore

# Pending backfill jobs at one time. They run after all other jobs, so this only limits how many are
# claimed in vain when the provider fails again.
OPEN_JOBS_MAX = 100
REQUEST_BATCH = 5_000


class Backfill:
    """circuits: names of the circuits of the providers. All methods raise StoreUnavailable."""

    def __init__(self, store: BackfillStore, *, circuits: Sequence[str]) -> None:
        self._store = store
        self._circuits = circuits

    async def enqueue_due(self) -> int:
        """Enqueue jobs for due backfills unless a circuit is open; returns how many."""
        return await self._store.enqueue_due(open_max=OPEN_JOBS_MAX, circuits=self._circuits)

    async def request(self, *, project_id: str | None, user_id: str | None) -> int:
        """Make every pending backfill due now, including those on request; how many blocks."""
        changed = 0
        while more := await self._store.request(
            project_id=project_id, user_id=user_id, limit=REQUEST_BATCH
        ):
            changed += more
        return changed

    async def pending_counts(
        self, *, project_id: str | None, user_id: str | None
    ) -> PendingBackfillCounts:
        """How many blocks have a pending backfill."""
        return await self._store.pending_counts(project_id=project_id, user_id=user_id)
