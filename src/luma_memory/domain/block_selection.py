"""Which blocks of a project a list or a deletion covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from luma_memory.domain.block import BlockStatus
from luma_memory.domain.filters import Filter
from luma_memory.domain.scope import Scope

# They are sums modulo this.
FINGERPRINTS: Final = 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSelection:
    """Conditions that must all hold; None does not restrict. Items are never part of it."""

    project_id: str
    user_id: str | None = None
    filters: Filter | None = None
    status: BlockStatus | None = None
    session_id: str | None = None
    ids: Sequence[UUID] | None = None


@dataclass(frozen=True, slots=True)
class SelectedBlock:
    """One block of a selection."""

    scope: Scope
    id: UUID
    fingerprint: int  # of its id and revision


@dataclass(frozen=True, slots=True)
class SelectedBlocks:
    """The blocks of a selection up to an id, at one moment."""

    count: int
    through: UUID | None  # the newest id; None if there is no block
    # The sum of theirs: differs once a block was added, edited or deleted.
    fingerprint: int

    def is_same(self, other: SelectedBlocks) -> bool:
        """Whether both are the same blocks."""
        return (self.count, self.fingerprint) == (other.count, other.fingerprint)

    def without(self, blocks: Sequence[SelectedBlock]) -> SelectedBlocks:
        """What is left once some of them are deleted."""
        gone = sum(block.fingerprint for block in blocks)
        left = (self.fingerprint - gone) % FINGERPRINTS
        return SelectedBlocks(self.count - len(blocks), self.through, left)
