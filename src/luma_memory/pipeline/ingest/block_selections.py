"""List the blocks of a project by their properties, and delete many of them after a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from uuid import UUID

from luma_memory.concurrency.retries import retry_until
from luma_memory.domain.block_selection import BlockSelection, SelectedBlocks
from luma_memory.domain.errors import Conflict, StoreContended
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.ingest.block_lists import DELETED_AT_ONCE, RETRY_SECONDS
from luma_memory.ports.block_selections import BlockSelectionStore
from luma_memory.ports.blocks import BlockPage

# Blocks that one call deletes, some seconds of work.
DELETED_PER_CALL_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Deletion:
    """What one call deleted, and what is left of the selection."""

    deleted: int
    left: SelectedBlocks


class BlockSelections:
    """All methods raise StoreUnavailable."""

    def __init__(self, store: BlockSelectionStore) -> None:
        self._store = store

    async def page(
        self, selection: BlockSelection, *, before: UUID | None = None, limit: int
    ) -> BlockPage:
        """Selected blocks, newest first; a page may be short, or empty, and be continued."""
        return await self._store.page(selection, before=before, limit=limit)

    async def count(self, selection: BlockSelection) -> SelectedBlocks:
        """What the selection contains now."""
        return (await self._store.chosen(selection, through=None, limit=1)).whole

    async def delete(self, selection: BlockSelection, counted: SelectedBlocks) -> Deletion:
        """Delete up to DELETED_PER_CALL_MAX blocks of what was counted, with all that refers to
        them, in batches: an interrupted deletion has deleted some of them.

        Raises Conflict (confirmation_outdated) if the selection now contains other blocks.
        """
        chosen = await self._store.chosen(
            selection, through=counted.through, limit=DELETED_PER_CALL_MAX
        )
        if not chosen.whole.is_same(counted):
            raise Conflict(
                "The selected blocks have changed since they were counted: repeat the dry run",
                code="confirmation_outdated",
            )
        deleted = 0
        for scope, blocks in groupby(chosen.first, key=lambda block: block.scope):
            ids = [block.id for block in blocks]
            for start in range(0, len(ids), DELETED_AT_ONCE):
                deleted += await self._delete(scope, ids[start : start + DELETED_AT_ONCE])
        return Deletion(deleted, counted.without(chosen.first))

    async def _delete(self, scope: Scope, ids: Sequence[UUID]) -> int:
        return await retry_until(
            lambda: self._store.delete(scope, ids),
            retry_on=StoreContended,
            timeout_seconds=RETRY_SECONDS,
        )
