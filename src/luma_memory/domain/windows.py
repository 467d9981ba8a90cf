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
    """What a stored window was made of."""

    fingerprint: int  # 31 bits of the turns' ids and revisions
    embedding_model: str | None


@dataclass(frozen=True, slots=True)
class Turn:
    """One block of a session, as far as windows are made of it."""

    place: Place
    revision: int
    speaker: str | None
    text: str  # its beginning
    is_before: bool  # read for what follows it
    window: WindowMark | None  # the window that ends with it, as it is stored


@dataclass(frozen=True, slots=True)
class MadeWindow:
    """A window to be stored."""

    block_id: UUID  # of its last turn
    fingerprint: int
    vector: Vector
