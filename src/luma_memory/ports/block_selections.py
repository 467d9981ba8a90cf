"""Blocks of a project by any of their properties, and their deletion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from luma_memory.domain.block_selection import BlockSelection, SelectedBlock, SelectedBlocks
from luma_memory.domain.scope import Scope
from luma_memory.ports.blocks import BlockPage


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a selection contains, and the blocks to begin with."""

    whole: SelectedBlocks
    first: Sequence[SelectedBlock]  # by scope and id


class BlockSelectionStore(Protocol):
    """All methods raise StoreUnavailable."""

    async def page(
        self, selection: BlockSelection, *, before: UUID | None, limit: int
    ) -> BlockPage:
        """Selected blocks older than `before`, newest first.

        Examines a bounded number of blocks: a page may be short, or empty, and be continued.
        """
        ...

    async def chosen(
        self, selection: BlockSelection, *, through: UUID | None, limit: int
    ) -> Chosen:
        """The selected blocks up to `through`, None for all, in one snapshot."""
        ...

    async def delete(self, scope: Scope, ids: Sequence[UUID]) -> int:
        """Delete blocks of one scope with all that refers to them, in one transaction; how many
        there were. Raises StoreContended."""
        ...
