"""Weekly summaries."""

from __future__ import annotations

from datetime import date
from typing import Literal, Protocol

from luma_memory.domain.job import Job
from luma_memory.domain.scope import Scope
from luma_memory.domain.summary import NewSummary, Summary, SummaryPage, WeekRead
from luma_memory.domain.weeks import Week

SummaryOutcome = Literal["stored", "changed", "lost"]


class SummaryStore(Protocol):
    """Weekly summaries. All methods raise StoreUnavailable."""

    async def read_week(self, scope: Scope, week: Week, *, limit: int) -> WeekRead:
        """The week's active blocks as of its end; of more than `limit`, the most important ones."""
        ...

    async def store(
        self,
        scope: Scope,
        summary: NewSummary | None,
        week: Week,
        read: WeekRead,
        *,
        worker_id: str | None,
        job: Job | None,
    ) -> SummaryOutcome:
        """Store it (None for an empty week) if the blocks are unchanged since they were read.

        With a job, it is completed together with that; "lost" if the job is no longer this
        worker's.
        """
        ...

    async def of_week(self, scope: Scope, week_start: date) -> Summary | None: ...

    async def page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: date | None,
        first: date | None = None,
        last: date | None = None,
    ) -> SummaryPage:
        """Newest week first.

        before: continues a list. first, last: Mondays of the only weeks that are listed.
        """
        ...
