"""Weekly summaries."""

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
    """One input of a summary: a block, or a partial summary of several."""

    text: str
    occurred_at: datetime
    block_ids: Sequence[UUID]  # its sources
    speaker: str | None = None
    importance: float = 0.5
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SummaryRequest:
    """The input of a summary, in order of time. Items are numbered from 1 in that order."""

    week: Week
    items: Sequence[Item]
    before: str | None  # the summary of the previous week; None without one


@dataclass(frozen=True, slots=True)
class MarkedSentence:
    """A sentence, and the numbers of the items that support it."""

    text: str
    marks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Draft:
    """The output of a summarizer, before validation."""

    text: str
    highlights: Sequence[MarkedSentence]
    comparison: str | None
    calls: Sequence[ModelCall] = ()
    model: str | None = None  # that wrote the draft; None: the configured one


@dataclass(frozen=True, slots=True)
class Highlight:
    text: str
    block_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class WeekRead:
    """The stored blocks of a week."""

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
    block_ids: Sequence[UUID]  # cited blocks


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
