"""Inspect and control jobs, one or many."""

from __future__ import annotations

from collections.abc import Sequence

from luma_memory.domain.errors import Conflict, NotFound
from luma_memory.domain.job import (
    OPEN,
    JobFilter,
    JobRecord,
    JobStats,
    JobStatus,
    JobType,
    Paused,
)
from luma_memory.ports.jobs import JobControl, JobPage, JobQueue, JobSignal


class Jobs:
    """The queue for operators and clients. Notifies workers of new pending jobs.

    All methods raise StoreUnavailable. `which` limits them to the jobs that the caller may access.
    """

    def __init__(self, control: JobControl, queue: JobQueue, *, signal: JobSignal | None) -> None:
        self._control = control
        self._queue = queue
        self._signal = signal

    async def stats(self) -> JobStats:
        """Statistics of the whole queue, for all projects."""
        return await self._queue.stats()

    async def page(self, which: JobFilter, *, status: JobStatus | None, limit: int) -> JobPage:
        """Up to `limit` jobs, newest first."""
        return await self._control.page(which, status=status, limit=limit)

    async def one(self, which: JobFilter) -> JobRecord:
        """The job of a filter with one id. Raises NotFound, also for a job outside the filter."""
        page = await self._control.page(which, status=None, limit=1)
        if not page.jobs:
            raise NotFound("There is no such job", code="job_not_found")
        return page.jobs[0]

    async def retry_one(self, which: JobFilter) -> JobRecord:
        """Retry a failed or cancelled job. A pending or running one stays unchanged.

        Raises NotFound, or Conflict (code job_not_retryable) for a completed job.
        """
        retried = await self.retry(which, limit=1)
        job = await self.one(which)
        if not retried and job.status not in OPEN:
            raise Conflict(
                f"This job is {job.status}: only failed and cancelled jobs run again",
                code="job_not_retryable",
            )
        return job

    async def cancel_one(self, which: JobFilter) -> JobRecord:
        """Cancel a pending or running job. A cancelled one stays unchanged.

        Raises NotFound, or Conflict (code job_not_cancellable) for a completed or failed job.
        """
        await self._control.cancel(which, limit=1)
        job = await self.one(which)
        if job.status != "cancelled":
            raise Conflict(
                f"This job is {job.status}: only pending and running jobs can be cancelled",
                code="job_not_cancellable",
            )
        return job

    async def retry(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Retry failed jobs, oldest first; returns their ids in ascending order."""
        return self._notified(await self._control.retry(which, limit=limit))

    async def count_retryable(self, which: JobFilter) -> int:
        """The number of jobs that a retry without a limit includes."""
        return await self._control.count(which, statuses=which.retryable)

    async def cancel(
        self, which: JobFilter, *, limit: int, statuses: Sequence[JobStatus] = OPEN
    ) -> Sequence[int]:
        """Cancel pending and running jobs, oldest first; returns their ids in ascending order.

        statuses: only jobs that have one of these now.
        """
        return await self._control.cancel(which, limit=limit, statuses=statuses)

    async def clear_pending(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Delete pending jobs, oldest first; returns their ids. Their blocks stay pending."""
        return await self._control.clear_pending(which, limit=limit)

    async def enqueue_waiting(
        self, *, project_id: str | None, user_id: str | None, limit: int
    ) -> Sequence[int]:
        """Enqueue jobs for pending blocks without one, oldest first; returns the job ids."""
        return self._notified(
            await self._control.enqueue_waiting(project_id=project_id, user_id=user_id, limit=limit)
        )

    async def count(self, which: JobFilter, *, statuses: Sequence[JobStatus]) -> int:
        """The number of jobs with these statuses."""
        return await self._control.count(which, statuses=statuses)

    async def count_waiting(self, *, project_id: str | None, user_id: str | None) -> int:
        """The number of pending blocks without a job."""
        return await self._control.count_waiting(project_id=project_id, user_id=user_id)

    async def pause(self, job_type: JobType | None) -> Sequence[Paused]:
        """Stop workers from claiming jobs of a type, or any job (None); returns all pauses.

        For the whole installation. Running jobs end, and jobs can be enqueued.
        """
        await self._control.pause(job_type)
        return (await self._queue.stats()).paused

    async def resume(self, job_type: JobType | None) -> Sequence[Paused]:
        """Allow claims again, of jobs of a type or of all that are paused (None).

        Returns the remaining pauses.
        """
        await self._control.resume(job_type)
        if self._signal is not None:
            self._signal.notify()
        return (await self._queue.stats()).paused

    def _notified(self, job_ids: Sequence[int]) -> Sequence[int]:
        if job_ids and self._signal is not None:
            self._signal.notify()
        return job_ids
