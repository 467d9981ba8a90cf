"""Enqueuing jobs that do not come with a block: `ports.jobs.JobProducer` on memory_jobs."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.job import NewJob
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)


class PostgresJobProducer:
    """Any number of jobs in one statement and transaction. attempts_max: of each job."""

    def __init__(self, database: Database, *, attempts_max: int) -> None:
        self._database = database
        self._attempts_max = attempts_max

    async def enqueue(self, jobs: Sequence[NewJob]) -> Sequence[int]:
        rows = await self._database.fetch(
            _SQL["enqueue"],
            [job.scope.project_id for job in jobs],
            [job.scope.user_id for job in jobs],
            [job.job_type for job in jobs],
            [job.block_id for job in jobs],
            [dict(job.payload) for job in jobs],
            [job.priority for job in jobs],
            [job.run_at for job in jobs],
            [job.unique_key for job in jobs],
            self._attempts_max,
        )
        return [row["id"] for row in rows]
