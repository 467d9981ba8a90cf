"""Windows of turns: a few turns of a session, embedded together, stored with the last of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from luma_memory.domain.enrichment import Vector


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The position of a block in its session: by time, then in order of arrival."""

    at: datetime
    block_id: UUID


SESSION_START = Place(datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True)
class WindowMark:
    """The turns a stored window was built from."""

    fingerprint: int  # 31 bits of the turns' ids and revisions
    embedding_model: str | None


@dataclass(frozen=True, slots=True)
class Turn:
    """One block of a session, with the data that windows are built from."""

    place: Place
    revision: int
    speaker: str | None
    text: str  # the beginning of the text
    is_before: bool  # read for what follows it
    window: WindowMark | None  # the stored window that ends with it


@dataclass(frozen=True, slots=True)
class MadeWindow:
    """A window to be stored."""

    block_id: UUID  # of its last turn
    fingerprint: int
    vector: Vector
