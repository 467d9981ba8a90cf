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
    """An ISO week, or a day of one."""
    try:
        monday_of(value)
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "week_form", "must be an ISO week such as 2026-W10, or a day of it such as 2026-03-04"
        ) from None
    return value


# As far as a pattern can say it: which years have a week 53, and which months a day 31, it cannot.
_YEAR = r"(19\d{2}|[2-8]\d{3}|9[0-8]\d{2}|99[0-8]\d)"
_WEEK = r"W(0[1-9]|[1-4]\d|5[0-3])"
_DAY = r"(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
WeekName = Annotated[
    str,
    Field(json_schema_extra={"pattern": f"^{_YEAR}-({_WEEK}|{_DAY})$"}),
    AfterValidator(check_week),
]


class NewSummaryBody(BaseModel):
    """Which week of whom is to be told."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"user_id": "user-42", "week": "2026-W10"}]},
    )

    user_id: Name
    week: WeekName | None = Field(
        None,
        description="An ISO week or a day of it, on the user's own calendar; the week that ended"
        " last, when left out.",
    )

    @property
    def week_start(self) -> date | None:
        return None if self.week is None else monday_of(self.week)


class HighlightBody(BaseModel):
    """One thing of the week, and the blocks it rests on."""

    text: str
    block_ids: list[UUID]


class SummaryBody(BaseModel):
    """What a week came to."""

    id: UUID
    week: str = Field(description="ISO 8601: 2026-W10.")
    week_start: date = Field(description="Its Monday, on the user's calendar.")
    time_zone: str = Field(description="The user's when it was made.")
    starts_at: datetime
    ends_at: datetime = Field(description="The first instant after it.")
    text: str
    highlights: list[HighlightBody]
    comparison: str | None = Field(description="With the week before; null where that has none.")
    block_ids: list[UUID] = Field(description="Every block that is cited.")
    model: str
    stale: bool = Field(description="Blocks of the week came, changed or went; made again soon.")
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
                HighlightBody(text=said.text, block_ids=list(said.block_ids))
                for said in summary.highlights
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
