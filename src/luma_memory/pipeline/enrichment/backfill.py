"""Make up for what was left out: while a provider was away, or a step was switched off."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.enrichment import PendingBackfillCounts
from luma_memory.ports.backfill import BackfillStore

# Such jobs waiting at one time. They stand behind all other work, so this bounds only how many are
# claimed for nothing when the provider fails again.
OPEN_JOBS_MAX = 100
REQUEST_BATCH = 5_000


class Backfill:
    """circuits: those of the providers that would do it. All methods raise StoreUnavailable."""

    def __init__(self, store: BackfillStore, *, circuits: Sequence[str]) -> None:
        self._store = store
        self._circuits = circuits

    async def enqueue_due(self) -> int:
        """Make jobs for what is due, unless the provider is known to be down; how many."""
        return await self._store.enqueue_due(open_max=OPEN_JOBS_MAX, circuits=self._circuits)

    async def request(self, *, project_id: str | None, user_id: str | None) -> int:
        """Make due whatever is owed, also what waits until somebody asks; how many blocks."""
        changed = 0
        while more := await self._store.request(
            project_id=project_id, user_id=user_id, limit=REQUEST_BATCH
        ):
            changed += more
        return changed

    async def pending_counts(
        self, *, project_id: str | None, user_id: str | None
    ) -> PendingBackfillCounts:
        """How many blocks lack something."""
        return await self._store.pending_counts(project_id=project_id, user_id=user_id)
