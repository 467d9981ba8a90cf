"""Claiming and finishing jobs: `ports.jobs.JobQueue` on memory_jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

import asyncpg

from luma_memory.domain.job import Failure, Job, JobStats, JobType
from luma_memory.domain.partition import HOME
from luma_memory.domain.scope import Scope
from luma_memory.ports.jobs import ClaimedJobs
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.telemetry import spans

_SQL = SqlFile(__name__)


class PostgresJobQueue:
    """Every method is one statement in its own transaction and fenced by (id, attempt, worker).

    attempts_max: overrides the limit jobs claimed here were enqueued with; None leaves
    each job its own. partition: whose jobs these are.
    """

    def __init__(
        self, database: Database, *, attempts_max: int | None = None, partition: int = HOME
    ) -> None:
        self._database = database
        self._partition = partition
        self._attempts_max = attempts_max

    async def claim(
        self,
        worker_id: str,
        *,
        limit: int,
        lease: timedelta,
        job_types: Sequence[JobType],
        rescue: bool,
    ) -> Sequence[Job]:
        started = spans.now_ns()
        rows = await self._database.fetch(
            _SQL["claim"], worker_id, limit, lease, list(job_types), rescue
        )
        jobs = [self._job(row) for row in rows]
        if jobs and spans.is_on():
            _record_claim(jobs, started)
        return jobs

    async def complete(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        return await self._were_mine("complete", jobs, worker_id)

    async def fail(
        self, worker_id: str, job: Job, failure: Failure, *, backoff: timedelta
    ) -> bool | None:
        if self._attempts_max is not None and not failure.final:
            await self._database.execute(
                _SQL["allow_attempts"],
                *(job.id, job.attempt, worker_id, self._attempts_max),
                *(job.scope.project_id, job.scope.user_id),
            )
        row = await self._database.fetch_row(
            _SQL["fail"],
            *_identities([job]),
            worker_id,
            [failure.error_class],
            [failure.message],
            [backoff],
            [failure.final],
        )
        return None if row is None else bool(row["status"] == "failed")

    async def release(
        self, worker_id: str, jobs: Sequence[Job], *, run_at: datetime | None = None
    ) -> Sequence[bool]:
        until = None if run_at is None else [run_at] * len(jobs)
        return await self._were_mine("release", jobs, worker_id, until)

    async def rescue(self, worker_id: str) -> int:
        row = await self._database.fetch_row(_SQL["rescue"], worker_id)
        assert row is not None
        return int(row["rescued"])

    async def claimed_jobs(self, worker_id: str) -> Sequence[Job]:
        rows = await self._database.fetch(_SQL["list_claimed"], worker_id)
        return [self._job(row) for row in rows]

    async def cancel(self, worker_id: str, job: Job, reason: str) -> bool:
        (is_mine,) = await self._were_mine("cancel", [job], worker_id, [reason])
        return is_mine

    async def stats(self) -> JobStats:
        row = await self._database.fetch_row(_SQL["job_stats"])
        assert row is not None
        return JobStats(**dict(row))

    def parts(self, running: Sequence[Job]) -> Mapping[int, ClaimedJobs]:
        return {self._partition: self}

    def _job(self, row: asyncpg.Record) -> Job:
        return Job(
            row["id"],
            Scope(row["project_id"], row["user_id"]),
            row["job_type"],
            row["block_id"],
            row["attempts"],
            self._attempts_max or row["max_attempts"],
            row["payload"] or {},
            self._partition,
        )

    async def _were_mine(
        self, statement: str, jobs: Sequence[Job], *values: object
    ) -> Sequence[bool]:
        row = await self._database.fetch_row(_SQL[statement], *_identities(jobs), *values)
        assert row is not None
        mine = set(row["ids"] or ())
        if len(mine) == len(jobs):
            return [True] * len(jobs)
        # Of two runs of one job in one statement, the fence accepts only the later one.
        last = {job.id: job.attempt for job in sorted(jobs, key=attrgetter("attempt"))}
        return [job.id in mine and last[job.id] == job.attempt for job in jobs]


def _record_claim(jobs: Sequence[Job], started: int) -> None:
    """Record a separate trace: one claim serves many requests. An empty claim is not recorded."""
    with spans.span(
        "claim",
        parent=spans.NEW_TRACE,
        links=[str(trace) for job in jobs if (trace := job.payload.get("traceparent"))],
        values={"luma.jobs": len(jobs)},
        started_ns=started,
    ):
        pass


def _identities(jobs: Sequence[Job]) -> tuple[list[int], list[int]]:
    return [job.id for job in jobs], [job.attempt for job in jobs]
