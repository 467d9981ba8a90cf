"""Looking at jobs and steering them: domain.ports.JobControl on memory_jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import asyncpg

from luma_memory.domain.job import OPEN, JobFilter, JobRecord, JobStatus
from luma_memory.domain.ports import JobPage
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import load_sql

_EVERY_STATUS: Sequence[JobStatus] = get_args(JobStatus)


class PostgresJobControl:
    """attempts_max: attempts a job gets that is enqueued here."""

    def __init__(self, database: Database, *, attempts_max: int) -> None:
        self._database = database
        self._attempts_max = attempts_max

    async def page(self, which: JobFilter, *, status: JobStatus | None, limit: int) -> JobPage:
        statement = _statement("page_jobs", [status] if status else _EVERY_STATUS)
        rows = await self._database.fetch(statement, *_values(which), limit + 1)
        jobs = [_record(row) for row in rows[:limit]]
        return JobPage(jobs, jobs[-1].id if len(rows) > limit else None)

    async def count(self, which: JobFilter, *, statuses: Sequence[JobStatus]) -> int:
        statement = _statement("count_jobs", statuses)
        row = await self._database.fetch_row(statement, *_values(which))
        assert row is not None
        return int(row["jobs"])

    async def retry(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        return await self._change("retry_jobs", which, which.retryable, limit)

    async def cancel(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        return await self._change("cancel_jobs", which, OPEN, limit)

    async def clear_pending(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        return await self._change("clear_jobs", which, ["pending"], limit)

    async def enqueue_waiting(
        self, *, project_id: str | None, user_id: str | None, limit: int
    ) -> Sequence[int]:
        statement = load_sql(__package__, "enqueue_waiting")
        rows = await self._database.fetch(statement, project_id, user_id, self._attempts_max, limit)
        return sorted(row["id"] for row in rows)

    async def count_waiting(self, *, project_id: str | None, user_id: str | None) -> int:
        statement = load_sql(__package__, "count_waiting")
        row = await self._database.fetch_row(statement, project_id, user_id)
        assert row is not None
        return int(row["blocks"])

    async def _change(
        self, name: str, which: JobFilter, statuses: Sequence[JobStatus], limit: int
    ) -> Sequence[int]:
        rows = await self._database.fetch(_statement(name, statuses), *_values(which), limit)
        return sorted(row["id"] for row in rows)


def _statement(name: str, statuses: Sequence[JobStatus]) -> str:
    listed = ", ".join(f"'{status}'" for status in _EVERY_STATUS if status in statuses)
    states = "true" if len(statuses) == len(_EVERY_STATUS) else f"j.status IN ({listed})"
    match = load_sql(__package__, "match_jobs")
    return (
        load_sql(__package__, name).replace("/*states*/", states).replace("/*match*/", f"\n{match}")
    )


def _values(which: JobFilter) -> tuple[Any, ...]:
    """In the order of match_jobs.sql."""
    return (
        which.project_id,
        which.user_id,
        None if which.ids is None else list(which.ids),
        which.job_type,
        which.error_class,
        which.created_after,
        which.created_before,
        which.finished_after,
        which.finished_before,
        which.above_id,
        which.below_id,
    )


def _record(row: asyncpg.Record) -> JobRecord:
    values = dict(row)
    scope = Scope(values.pop("project_id"), values.pop("user_id"))
    return JobRecord(scope=scope, **values)
