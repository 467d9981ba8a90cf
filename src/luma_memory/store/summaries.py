"""Weekly summaries in PostgreSQL."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import asyncpg

from luma_memory.domain.ids import IdMaker
from luma_memory.domain.job import Job
from luma_memory.domain.scope import Scope
from luma_memory.domain.summary import (
    Highlight,
    NewSummary,
    Summary,
    SummaryPage,
    WeekBlock,
    WeekRead,
)
from luma_memory.domain.weeks import WEEK, Week
from luma_memory.ports.summaries import SummaryOutcome
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresSummaryStore:
    """`ports.summaries.SummaryStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids = IdMaker()

    async def read_week(self, scope: Scope, week: Week, *, limit: int) -> WeekRead:
        rows = await self._database.fetch(
            _SQL["read_week"],
            scope.project_id,
            scope.user_id,
            week.starts_at,
            week.ends_at,
            limit,
            week.start - WEEK,
        )
        blocks = [_week_block(row) for row in rows if row["id"] is not None]
        return WeekRead(blocks, rows[0]["before"])

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
        row = await self._database.fetch_row(
            _SQL["store_summary"],
            scope.project_id,
            scope.user_id,
            week.start,
            week.time_zone,
            week.starts_at,
            week.ends_at,
            self._ids.make(),
            summary.text if summary else None,
            [_highlight_json(h) for h in summary.highlights] if summary else None,
            summary.comparison if summary else None,
            summary.model if summary else None,
            list(summary.block_ids) if summary else None,
            [block.id for block in read.blocks],
            [block.revision for block in read.blocks],
            worker_id if job else None,
            job.id if job else None,
            job.attempt if job else None,
        )
        assert row is not None
        outcome: SummaryOutcome = row["outcome"]
        return outcome

    async def of_week(self, scope: Scope, week_start: date) -> Summary | None:
        page = await self.page(scope, limit=1, before=None, first=week_start, last=week_start)
        return page.summaries[0] if page.summaries else None

    async def page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: date | None,
        first: date | None = None,
        last: date | None = None,
    ) -> SummaryPage:
        rows = await self._database.fetch(
            _SQL["page_summaries"],
            scope.project_id,
            scope.user_id,
            before,
            first,
            last,
            limit + 1,
        )
        shown = [_summary(row) for row in rows[:limit]]
        return SummaryPage(shown, shown[-1].week_start if len(rows) > limit else None)


def _week_block(row: asyncpg.Record) -> WeekBlock:
    values = dict(row)
    del values["before"]
    return WeekBlock(**values)


def _highlight_json(highlight: Highlight) -> dict[str, object]:
    return {"text": highlight.text, "block_ids": [str(key) for key in highlight.block_ids]}


def _summary(row: asyncpg.Record) -> Summary:
    values = dict(row)
    values["highlights"] = [
        Highlight(entry["text"], [UUID(key) for key in entry["block_ids"]])
        for entry in values["highlights"]
    ]
    return Summary(**values)
