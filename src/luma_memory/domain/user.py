"""Users and their own settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

UserSort = Literal["last_activity", "user_id"]


@dataclass(frozen=True, slots=True)
class User:
    """A user as stored, with defaults for unknown values."""

    time_zone: str = "UTC"
    created_at: datetime | None = None  # None: no block was ever stored for them
    last_ingest_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UserCounts:
    """Blocks and items of a user, counted up to a limit of rows."""

    blocks: int
    pending: int  # blocks that wait for enrichment
    failed: int
    items: int
    is_limited: bool  # there are more rows than were counted


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user in the list of a project's users."""

    user_id: str
    user: User
    counts: UserCounts


@dataclass(frozen=True, slots=True)
class Session:
    """The blocks of a user that carry one session id."""

    session_id: str
    block_count: int
    first_occurred_at: datetime
    last_occurred_at: datetime
    last_created_at: datetime


@dataclass(frozen=True, slots=True)
class FrequentTerm:
    """A tag of a user's blocks."""

    term: str
    block_count: int
    last_occurred_at: datetime


@dataclass(frozen=True, slots=True)
class TermProfile:
    """What a user's blocks are about: their most frequent tags."""

    terms: list[FrequentTerm]  # the most frequent first
    block_count: int  # blocks that were examined, the newest ones
    is_limited: bool  # there are older blocks that were not
