"""The job queue: enqueue, claim, finish, control, maintenance, worker presence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from luma_memory.domain.job import (
    OPEN,
    Failure,
    Job,
    JobFilter,
    JobRecord,
    JobStats,
    JobStatus,
    JobType,
    NewJob,
)
from luma_memory.domain.scope import Scope


class JobProducer(Protocol):
    """Enqueues jobs that do not come with a block."""

    async def enqueue(self, jobs: Sequence[NewJob]) -> Sequence[int]:
        """The new jobs' ids; none for a unique key that is taken. Raises StoreUnavailable."""
        ...


class ClaimedJobs(Protocol):
    """The jobs that a worker has claimed in one partition."""

    async def claimed_jobs(self, worker_id: str) -> Sequence[Job]:
        """Those that this worker is running, as the table has it."""
        ...

    async def release(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        """As `JobQueue.release`."""
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
        """Up to `limit` jobs, each with an attempt counted. An empty list if nothing is due."""
        ...

    async def complete(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        """Complete jobs whose work needed no write-back; which of them were still the worker's.

        Jobs claimed by another worker are unchanged.
        """
        ...

    async def fail(
        self, worker_id: str, job: Job, failure: Failure, *, backoff: timedelta
    ) -> bool | None:
        """Count a failed attempt. True when the job failed for good, False when it runs again.

        None if another worker has the job: nothing was changed.
        """
        ...

    async def release(
        self, worker_id: str, jobs: Sequence[Job], *, run_at: datetime | None = None
    ) -> Sequence[bool]:
        """Release jobs without consuming the attempt; which of them were still the worker's."""
        ...

    async def rescue(self, worker_id: str) -> int:
        """Return jobs of dead workers to the queue, for any worker to claim; how many."""
        ...

    async def claimed_jobs(self, worker_id: str) -> Sequence[Job]:
        """The jobs that this worker is running, as the table has it."""
        ...

    async def cancel(self, worker_id: str, job: Job, reason: str) -> bool:
        """End a claimed job for good without a result; False if another worker has it."""
        ...

    async def stats(self) -> JobStats:
        """The queue in numbers, in constant time."""
        ...

    def parts(self, running: Sequence[Job]) -> Mapping[int, ClaimedJobs]:
        """Queues that are reconciled with the running jobs, by the partition of their jobs."""
        ...


class QueueUpkeep(Protocol):
    """Maintenance of the queue, and its scheduled jobs. All methods raise StoreUnavailable."""

    async def prune(
        self, *, completed_before: datetime, failed_before: datetime, limit: int
    ) -> int:
        """Delete up to `limit` jobs that ended before these; how many. The totals stay."""
        ...

    async def schedule_weekly_summaries(self, now: datetime, *, limit: int) -> int:
        """Enqueue what is due at `now`, once per user and week; how many jobs were enqueued."""
        ...


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first; `next_below` continues the list, None at its end."""

    jobs: Sequence[JobRecord]
    next_below: int | None


class JobControl(Protocol):
    """The queue as operators and clients see it: list, retry, cancel, clear, pause.

    Every method takes the project. Those that change jobs change at most `limit` of them, the
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

    async def cancel(
        self, which: JobFilter, *, limit: int, statuses: Sequence[JobStatus] = OPEN
    ) -> Sequence[int]:
        """Cancel jobs that have not ended, also running ones; the ids of those that were."""
        ...

    async def clear_pending(self, which: JobFilter, *, limit: int) -> Sequence[int]:
        """Delete pending jobs; their blocks stay pending. Returns the ids of the deleted jobs."""
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
        """Let workers claim jobs of a type again, or of everything paused."""
        ...

    async def count_waiting(self, *, project_id: str | None, user_id: str | None) -> int:
        """Blocks that wait for enrichment without a job."""
        ...


class JobSignal(Protocol):
    """Notifies workers that there may be work. A hint: losing it costs a poll interval."""

    def notify(self, *scopes: Scope) -> None:
        """Send the notification soon; never blocks and never raises.

        scopes: whose jobs these are, if that is known.
        """
        ...


class WorkerPresence(Protocol):
    """A worker's registration, by which the others know it."""

    @property
    def worker_id(self) -> str:
        """Unique for every process start."""
        ...

    async def start(
        self, *, running: Callable[[], int], on_signal: Callable[[], None] | None
    ) -> None:
        """Register, and call `on_signal` from then on whenever there may be work.

        running: called at every heartbeat for the number of running jobs. Raises StoreUnavailable
        or SetupError.
        """
        ...

    async def stop(self) -> None:
        """Deregister. Idempotent; harmless before start."""
        ...
