"""Listing and controlling jobs: `ports.jobs.JobControl` on memory_jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

import asyncpg

from luma_memory.domain.job import OPEN, AttemptError, JobFilter, JobRecord, JobStatus, JobType
from luma_memory.domain.scope import Scope
from luma_memory.ports.jobs import JobPage
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)

_EVERY_STATUS: Sequence[JobStatus] = get_args(JobStatus)
# Fields of a JobFilter as conditions. A statement contains only the requested ones: one with
# all of them, as `$1 IS NULL OR …`, gets a generic plan that reads every row to find one by its id.
_CONDITIONS: Mapping[str, str] = {
    "project_id": "j.project_id = {}",
    "user_id": "j.user_id = {}",
    "ids": "j.id = ANY ({}::bigint[])",
    "job_type": "j.job_type = {}",
    "error_class": "j.error_class = {}",
    "created_after": "j.created_at >= {}",
    "created_before": "j.created_at < {}",
    "finished_after": "j.finished_at >= {}",
    "finished_before": "j.finished_at < {}",
    "above_id": "j.id > {}",
    "below_id": "j.id < {}",
}


class PostgresJobControl:
    """attempts_max: for jobs that are enqueued here."""

    def __init__(self, database: Database, *, attempts_max: int) -> None:
        self._database = database
        self._attempts_max = attempts_max

    async def page(self, which: JobFilter, *, status: JobStatus | None, limit: int) -> JobPage:
        statuses = [status] if status else _EVERY_STATUS
        rows = await self._database.fetch(*_statement("page_jobs", which, statuses, limit + 1))
        jobs = [_record(row) for row in rows[:limit]]
        return JobPage(jobs, jobs[-1].id if len(rows) > limit else None)

    async def count(self, which: JobFilter, *, statuses: Sequence[JobStatus]) -> int:
        row = await self._database.fetch_row(*_statement("count_jobs", which, statuses))
        assert row is not None
        return int(row["jobs"])

    async def retry(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        return await self._change("retry_jobs", which, which.retryable, limit)

    async def cancel(
        self, which: JobFilter, *, limit: int, statuses: Sequence[JobStatus] = OPEN
    ) -> Sequence[int]:
        return await self._change("cancel_jobs", which, statuses, limit)

    async def clear_pending(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        return await self._change("clear_jobs", which, ["pending"], limit)

    async def enqueue_waiting(
        self, *, project_id: str | None, user_id: str | None, limit: int
    ) -> Sequence[int]:
        statement = _SQL["enqueue_waiting"]
        rows = await self._database.fetch(statement, project_id, user_id, self._attempts_max, limit)
        return sorted(row["id"] for row in rows)

    async def count_waiting(self, *, project_id: str | None, user_id: str | None) -> int:
        statement = _SQL["count_waiting"]
        row = await self._database.fetch_row(statement, project_id, user_id)
        assert row is not None
        return int(row["blocks"])

    async def pause(self, job_type: JobType | None) -> None:
        await self._database.execute(_SQL["pause"], job_type)

    async def resume(self, job_type: JobType | None) -> None:
        await self._database.execute(_SQL["resume"], job_type)

    async def _change(
        self, name: str, which: JobFilter, statuses: Sequence[JobStatus], limit: int
    ) -> Sequence[int]:
        rows = await self._database.fetch(*_statement(name, which, statuses, limit))
        return sorted(row["id"] for row in rows)


def _statement(
    name: str, which: JobFilter, statuses: Sequence[JobStatus], *values: int
) -> tuple[Any, ...]:
    """The statement and its values: those given from $1 on, followed by the filter's.

    The states come in as text: a parameter would hide them from the partial indexes.
    """
    conditions, given = [], list[Any](values)
    if len(statuses) < len(_EVERY_STATUS):
        listed = ", ".join(f"'{status}'" for status in _EVERY_STATUS if status in statuses)
        conditions.append(f"j.status IN ({listed})")
    for field, condition in _CONDITIONS.items():
        value = getattr(which, field)
        if value is not None:
            given.append(value)
            conditions.append(condition.format(f"${len(given)}"))
    text = _SQL[name].replace("/*conditions*/", "\n  AND ".join(conditions))
    return text, *given


def _record(row: asyncpg.Record) -> JobRecord:
    values = dict(row)
    scope = Scope(values.pop("project_id"), values.pop("user_id"))
    errors = [_attempt_error(error) for error in values.pop("attempt_errors")]
    return JobRecord(scope=scope, attempt_errors=errors, **values)


def _attempt_error(stored: Mapping[str, Any]) -> AttemptError:
    return AttemptError(
        attempt=stored["attempt"],
        at=datetime.fromisoformat(stored["at"]),
        worker=stored["worker"],
        error_class=stored["error_class"],
        message=stored["message"] or "",
    )
