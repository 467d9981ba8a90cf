"""Records of an erasure, and proofs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from luma_memory.domain.scope import Scope


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure as it is stored: without the user's id."""

    id: UUID
    counts: Mapping[str, int]  # deleted rows by kind
    started_at: datetime
    erased_at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of an erasure. The signature binds all its fields to this installation."""

    erasure: Erasure
    scope: Scope
    signature: str  # hexadecimal


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of verifying an erasure."""

    is_genuine: bool  # the signature is this installation's, and so is the record of the erasure
    remaining: Mapping[str, int]  # rows that name the user now, by kind; no count is 0
    # When the user was created again after the erasure; rows are then from that later time.
    stored_again_at: datetime | None

    @property
    def holds(self) -> bool:
        """Whether the receipt is genuine and no data from before the erasure is left."""
        return self.is_genuine and (not self.remaining or self.stored_again_at is not None)
