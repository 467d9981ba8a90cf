"""What a week came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.weeks import Week

HIGHLIGHTS_MAX = 12


@dataclass(frozen=True, slots=True)
class WeekBlock:
    """One block of a week, as a summarizer needs it."""

    id: UUID
    revision: int
    occurred_at: datetime
    content: str
    speaker: str | None
    title: str | None
    summary: str | None
    tags: Sequence[str]
    importance: float  # 0..1


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell of: a block, or what was told of several."""

    text: str
    occurred_at: datetime
    block_ids: Sequence[UUID]  # that it rests on
    speaker: str | None = None
    importance: float = 0.5
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SummaryRequest:
    """What is to be told, in order of time. Items are numbered from 1 in that order."""

    week: Week
    items: Sequence[Item]
    before: str | None  # what was told of the week before; None where nothing was


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence, and the numbers of the items it rests on."""

    text: str
    marks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a summarizer says; nothing of it is checked yet."""

    text: str
    highlights: Sequence[Told]
    comparison: str | None
    calls: Sequence[ModelCall] = ()
    model: str | None = None  # who said it; None: whoever was asked


@dataclass(frozen=True, slots=True)
class Highlight:
    text: str
    block_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class WeekRead:
    """A week as it stands in the store."""

    blocks: Sequence[WeekBlock]  # in order of time
    before: str | None  # the text of the week before


@dataclass(frozen=True, slots=True)
class NewSummary:
    """A checked summary of a week, ready to be stored."""

    week: Week
    text: str
    highlights: Sequence[Highlight]
    comparison: str | None
    model: str
    block_ids: Sequence[UUID]  # cited


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary as it is stored."""

    id: UUID
    week_start: date
    time_zone: str
    starts_at: datetime
    ends_at: datetime
    text: str
    highlights: Sequence[Highlight]
    comparison: str | None
    block_ids: Sequence[UUID]
    model: str
    stale: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SummaryPage:
    """Summaries, newest first; `next_before` continues the list, None at its end."""

    summaries: Sequence[Summary]
    next_before: date | None
