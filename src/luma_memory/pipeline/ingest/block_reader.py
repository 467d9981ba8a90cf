"""Read blocks."""

from __future__ import annotations

from uuid import UUID

from luma_memory.domain.block import Block, BlockStatus
from luma_memory.domain.scope import Scope
from luma_memory.ports.blocks import BlockPage, BlockStore


class Blocks:
    """A scope's blocks, one or page by page. Raises StoreUnavailable."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store

    async def read_one(self, scope: Scope, block_id: UUID) -> Block | None:
        """The block, or None if this scope has no block with that id."""
        (block,) = await self._store.read([(scope, block_id)])
        return block

    async def page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: UUID | None = None,
        status: BlockStatus | None = None,
        session_id: str | None = None,
    ) -> BlockPage:
        """Up to `limit` blocks older than `before`, newest first."""
        return await self._store.page(
            scope, limit=limit, before=before, status=status, session_id=session_id
        )
