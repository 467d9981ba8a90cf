"""Relations between two blocks of a scope: found, stored, decided on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from luma_memory.domain.enrichment import Entity, ModelCall
from luma_memory.domain.scope import Scope

RelationType = Literal[
    "related",
    "elaborates",
    "supports",
    "contradicts",
    "supersedes",
    "duplicates",
    "causes",
    "follows",
]
RelationStatus = Literal["accepted", "rejected"]
# Their source is the later block, whichever direction the model returned: the store orders them.
BY_TIME: Final[frozenset[RelationType]] = frozenset(
    {"supersedes", "contradicts", "duplicates", "follows"}
)


@dataclass(frozen=True, slots=True)
class RelationBlock:
    """A block as a relator sees it."""

    id: UUID
    revision: int
    content: str
    occurred_at: datetime
    created_at: datetime
    session_id: str | None = None
    speaker: str | None = None
    entities: Sequence[Entity] = ()

    @property
    def place(self) -> tuple[datetime, datetime, UUID]:
        """Its position in the order of the scope's blocks: by time, then by arrival."""
        return self.occurred_at, self.created_at, self.id


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block that may be related to the new one, and the reasons."""

    block: RelationBlock
    similarity: float | None  # cosine of their nearest passages, -1..1; None without vectors
    overlap: float  # inner product of their words' weights, >= 0
    is_previous: bool  # the previous turn of its session


@dataclass(frozen=True, slots=True)
class RelationRequest:
    """One block and all its candidates, the best first."""

    block: RelationBlock
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Finding:
    """A relation reported by a relator between the block and a candidate; not validated yet."""

    candidate: int  # its number, from 1
    type: RelationType
    from_block: bool  # whether it leads from the block to the candidate or back
    confidence: float
    block_quote: str
    candidate_quote: str


@dataclass(frozen=True, slots=True)
class Findings:
    relations: Sequence[Finding]
    calls: Sequence[ModelCall] = ()
    model: str | None = None  # that found the relations; None: the configured one


@dataclass(frozen=True, slots=True)
class NewRelation:
    """A checked relation, read from source to target: "source supersedes target"."""

    source_id: UUID
    target_id: UUID
    type: RelationType
    confidence: float  # 0..1
    evidence: str  # quotes from both texts


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a user's next detection may begin."""

    is_mine: bool  # False: another worker has the job, or the user is gone
    granted: bool
    retry_at: datetime | None = None  # if it was not granted
    is_news: bool = False  # the first refusal of a window


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation as it is stored."""

    id: UUID
    source_id: UUID
    target_id: UUID
    type: RelationType
    confidence: float
    evidence: str | None
    model: str  # who found it
    status: RelationStatus
    decided_by: str | None  # who accepted or rejected it; None: no one yet
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RelationPage:
    """Relations, newest first; `next_before` continues the list, None at its end."""

    relations: Sequence[Relation]
    next_before: UUID | None


@dataclass(frozen=True, slots=True)
class RelationCursor:
    """The last block, in order of the keys, that a scan of the installation has processed."""

    scope: Scope
    block_id: UUID


@dataclass(frozen=True, slots=True)
class Link:
    """An accepted relation as recall reads it."""

    source_id: UUID
    target_id: UUID
    type: RelationType
    confidence: float
