"""Weekly summaries on the wire."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from luma_memory.domain.summary import Summary
from luma_memory.domain.weeks import Week, monday_of
from luma_memory.protocol.validation import Name


def check_week(value: str) -> str:
    """Require an ISO week, or a day."""
    try:
        monday_of(value)
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "week_form", "must be an ISO week such as 2026-W10, or a day of it such as 2026-03-04"
        ) from None
    return value


# A pattern cannot express which years have a week 53 and which months a day 31.
_YEAR = r"(19\d{2}|[2-8]\d{3}|9[0-8]\d{2}|99[0-8]\d)"
_WEEK = r"W(0[1-9]|[1-4]\d|5[0-3])"
_DAY = r"(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
WeekName = Annotated[
    str,
    Field(json_schema_extra={"pattern": f"^{_YEAR}-({_WEEK}|{_DAY})$"}),
    AfterValidator(check_week),
]


class NewSummaryBody(BaseModel):
    """The user and week to summarize."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"user_id": "user-42", "week": "2026-W10"}]},
    )

    user_id: Name
    week: WeekName | None = Field(
        None,
        description="An ISO week or a day in it, on the user's calendar; defaults to the last"
        " completed week.",
    )

    @property
    def week_start(self) -> date | None:
        return None if self.week is None else monday_of(self.week)


class HighlightBody(BaseModel):
    """A statement about the week, with the blocks it cites."""

    text: str
    block_ids: list[UUID]


class SummaryBody(BaseModel):
    """A weekly summary."""

    id: UUID
    week: str = Field(description="ISO 8601: 2026-W10.")
    week_start: date = Field(description="The week's Monday, on the user's calendar.")
    time_zone: str = Field(description="The user's time zone when it was written.")
    starts_at: datetime
    ends_at: datetime = Field(description="Exclusive end of the week.")
    text: str
    highlights: list[HighlightBody]
    comparison: str | None = Field(
        description="With the previous week; null if that has no summary."
    )
    block_ids: list[UUID] = Field(description="All cited blocks.")
    model: str
    stale: bool = Field(description="Blocks of the week changed since; it is rewritten soon.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, summary: Summary) -> SummaryBody:
        return cls(
            id=summary.id,
            week=Week.beginning(summary.week_start, summary.time_zone).name,
            week_start=summary.week_start,
            time_zone=summary.time_zone,
            starts_at=summary.starts_at,
            ends_at=summary.ends_at,
            text=summary.text,
            highlights=[
                HighlightBody(text=highlight.text, block_ids=list(highlight.block_ids))
                for highlight in summary.highlights
            ],
            comparison=summary.comparison,
            block_ids=list(summary.block_ids),
            model=summary.model,
            stale=summary.stale,
            created_at=summary.created_at,
            updated_at=summary.updated_at,
        )


class SummaryPageBody(BaseModel):
    """Summaries, the newest week first."""

    summaries: list[SummaryBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")
