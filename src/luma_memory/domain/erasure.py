"""What is left to show after a user was erased."""

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
    counts: Mapping[str, int]  # rows deleted, by what they were
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
    """What looking for an erased user came to."""

    is_genuine: bool  # the signature is this installation's, and so is the record of the erasure
    remaining: Mapping[str, int]  # rows that name the user now, by what they are; none is 0
    # When the user was stored anew after the erasure; what remains is then of that later time.
    stored_again_at: datetime | None

    @property
    def holds(self) -> bool:
        """Whether the receipt is genuine and nothing of before the erasure is left."""
        return self.is_genuine and (not self.remaining or self.stored_again_at is not None)
