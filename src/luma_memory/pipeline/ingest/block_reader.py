"""Read blocks."""

from __future__ import annotations

from uuid import UUID

from luma_memory.domain.block import Block
from luma_memory.domain.scope import Scope
from luma_memory.ports.blocks import BlockStore


class Blocks:
    """A scope's blocks, one by one. Raises StoreUnavailable."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store

    async def read_one(self, scope: Scope, block_id: UUID) -> Block | None:
        """The block, or None if this scope has no block with that id."""
        (block,) = await self._store.read([(scope, block_id)])
        return block
