"""Users and their own settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class User:
    """A user as stored, with defaults for unknown values."""

    time_zone: str = "UTC"
    created_at: datetime | None = None  # None: no block was ever stored for them
    last_ingest_at: datetime | None = None
