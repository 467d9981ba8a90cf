"""The job queue: enqueue, claim, finish, control, maintenance, worker presence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from luma_memory.domain.job import (
    Failure,
    Job,
    JobFilter,
    JobRecord,
    JobStats,
    JobStatus,
    JobType,
    NewJob,
)


class JobProducer(Protocol):
    """Jobs that no block brings with it."""

    async def enqueue(self, jobs: Sequence[NewJob]) -> Sequence[int]:
        """The new jobs' ids; none for a unique key that is taken. Raises StoreUnavailable."""
        ...


class JobQueue(Protocol):
    """The queue as a worker sees it."""

    async def claim(
        self,
        worker_id: str,
        *,
        limit: int,
        lease: timedelta,
        job_types: Sequence[JobType],
        rescue: bool,
    ) -> Sequence[Job]:
        """Up to `limit` jobs, each with an attempt counted. Nothing to do is an empty answer."""
        ...

    async def complete(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        """Complete jobs whose work needed no write-back; which of them were still the worker's.

        Jobs in other hands stay untouched.
        """
        ...

    async def fail(
        self, worker_id: str, job: Job, failure: Failure, *, backoff: timedelta
    ) -> bool | None:
        """Count a failed attempt. True when the job failed for good, False when it runs again.

        None when the job was in other hands: nothing was changed.
        """
        ...

    async def release(
        self, worker_id: str, jobs: Sequence[Job], *, run_at: datetime | None = None
    ) -> Sequence[bool]:
        """Hand jobs back without spending the attempt; which of them were still the worker's."""
        ...

    async def rescue(self, worker_id: str) -> int:
        """Take back jobs of workers that are gone, for anybody to claim; how many."""
        ...

    async def claimed_jobs(self, worker_id: str) -> Sequence[Job]:
        """The jobs that this worker is running, as the table has it."""
        ...

    async def cancel(self, worker_id: str, job: Job, reason: str) -> bool:
        """End a claimed job for good without a result; False when it was in other hands."""
        ...

    async def stats(self) -> JobStats:
        """The queue in numbers, in constant time."""
        ...


class QueueUpkeep(Protocol):
    """What keeps the queue small and its calendar. All methods raise StoreUnavailable."""

    async def prune(
        self, *, completed_before: datetime, failed_before: datetime, limit: int
    ) -> int:
        """Delete up to `limit` jobs that ended before these; how many. The totals stay."""
        ...

    async def schedule_weekly_summaries(self, now: datetime, *, limit: int) -> int:
        """Enqueue what is due at `now`, once a user and week; how many jobs were made."""
        ...


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first; `next_below` continues the list, None at its end."""

    jobs: Sequence[JobRecord]
    next_below: int | None


class JobControl(Protocol):
    """The queue as operators and clients see it: look, run again, cancel, clear, pause.

    Every method says for which project. What changes jobs changes at most `limit` of them, the
    oldest first, in one statement. All methods raise StoreUnavailable.
    """

    async def page(self, which: JobFilter, *, status: JobStatus | None, limit: int) -> JobPage:
        """One page of jobs, newest first."""
        ...

    async def count(self, which: JobFilter, *, statuses: Sequence[JobStatus]) -> int:
        """How many jobs in these states; reads all of them."""
        ...

    async def retry(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Let failed jobs run again (cancelled ones by id only); the ids of those that will."""
        ...

    async def cancel(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Cancel jobs that have not ended, also running ones; the ids of those that were."""
        ...

    async def clear_pending(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Delete pending jobs; their blocks go on waiting. The ids of those that are gone."""
        ...

    async def enqueue_waiting(
        self, *, project_id: str | None, user_id: str | None, limit: int
    ) -> Sequence[int]:
        """A job for every block that waits for enrichment without one; the ids of the jobs."""
        ...

    async def pause(self, job_type: JobType | None) -> None:
        """Let no worker claim jobs of a type, or any; repeating it is harmless."""
        ...

    async def resume(self, job_type: JobType | None) -> None:
        """Let workers claim jobs of a type again, or whatever was paused."""
        ...

    async def count_waiting(self, *, project_id: str | None, user_id: str | None) -> int:
        """Blocks that wait for enrichment without a job."""
        ...


class JobSignal(Protocol):
    """Tells workers that there may be work. A hint: losing it costs a poll interval."""

    def notify(self) -> None:
        """Say so soon; never blocks and never raises."""
        ...


class WorkerPresence(Protocol):
    """How a worker is known to the others."""

    @property
    def worker_id(self) -> str:
        """New at every process start."""
        ...

    async def start(
        self, *, running: Callable[[], int], on_signal: Callable[[], None] | None
    ) -> None:
        """Register, and call `on_signal` from then on whenever there may be work.

        running: asked at every heartbeat for the number of jobs at work. Raises StoreUnavailable
        or SetupError.
        """
        ...

    async def stop(self) -> None:
        """Say goodbye. Idempotent; harmless before start."""
        ...
