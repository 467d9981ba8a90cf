"""What a user is to us: a scope with a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class User:
    """A user as stored. What is not known yet is as it would be."""

    time_zone: str = "UTC"
    created_at: datetime | None = None  # None: nothing was ever stored for them
    last_ingest_at: datetime | None = None
