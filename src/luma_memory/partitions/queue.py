"""The queue of all partitions as a worker sees it.

Claims go to partitions that have work, in turn, so that none starves: each claim begins behind the
partition where the last one ended, and many free slots are shared out among those that are due. A
claim that takes long does not keep the others waiting: its jobs are returned by a later call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from luma_memory.concurrency.deadline import within
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable
from luma_memory.domain.job import Failure, Job, JobStats, JobType
from luma_memory.domain.partition import HOME
from luma_memory.partitions.jobs import stats
from luma_memory.partitions.places import Places
from luma_memory.partitions.router import Routed
from luma_memory.partitions.rules import by_job_results
from luma_memory.partitions.work_checks import WorkChecks
from luma_memory.ports.jobs import ClaimedJobs, JobQueue

# How long a claim waits for the partitions that it asked.
_TOGETHER_SECONDS: Final = 0.3
_RECONCILE_SECONDS: Final = 1.0
# The least share of slots for one partition, and the most partitions that one claim uses.
_SHARE_MIN: Final = 5
_PARALLEL_MAX: Final = 8


class PartitionedQueue:
    """`ports.jobs.JobQueue`. One for each part of a worker that claims.

    delivers: whether it claims deliveries of webhooks only, and so only where there are webhooks.
    """

    def __init__(
        self,
        places: Places,
        queues: Sequence[JobQueue],
        checks: WorkChecks,
        *,
        delivers: bool = False,
    ) -> None:
        self._delivers = delivers
        self._routed = Routed(places, queues)
        self._places = places
        self._queues = queues
        self._checks = checks
        self._due: set[int] = set()
        self._next = 0
        # Claims that have not responded yet, with how many jobs they may return.
        self._late: dict[asyncio.Task[Sequence[Job]], tuple[int, int]] = {}
        self._arrived: list[Job] = []
        self.wake: Callable[[], None] = lambda: None
        self._is_claiming = False
        checks.subscribe(self._found)
        release = by_job_results(lambda job: job)
        self._release = release(self._routed, "release")
        self._complete = release(self._routed, "complete")

    def heard(self, partitions: Sequence[int]) -> None:
        """A notification: these partitions have work, or any of them if none is named."""
        if partitions:
            self._due.update(n for n in partitions if n < self._places.count)
        else:
            self._checks.expire()

    def _found(self, partitions: Sequence[int]) -> None:
        """A check, which may be of another part of the worker: this one's next check would be left
        out as that one is recent, so its work is claimed now."""
        self._due.update(partitions)
        if partitions and not self._is_claiming:
            self.wake()

    async def claim(
        self,
        worker_id: str,
        *,
        limit: int,
        lease: timedelta,
        job_types: Sequence[JobType],
        rescue: bool,
    ) -> Sequence[Job]:
        self._is_claiming = True
        try:
            return await self._claimed(
                worker_id, limit=limit, lease=lease, job_types=job_types, rescue=rescue
            )
        finally:
            self._is_claiming = False

    async def _claimed(
        self,
        worker_id: str,
        *,
        limit: int,
        lease: timedelta,
        job_types: Sequence[JobType],
        rescue: bool,
    ) -> Sequence[Job]:
        await self._checks.fresh(is_idle=not self._due)
        jobs, self._arrived = self._arrived[:limit], self._arrived[limit:]
        while (free := limit - len(jobs)) > 0:
            numbers = self._chosen(free)
            if not numbers:
                break
            started = []
            for n, number in enumerate(numbers):
                share = free // len(numbers) + (n < free % len(numbers))
                call = partial(
                    self._queues[number].claim,
                    worker_id,
                    limit=share,
                    lease=lease,
                    job_types=job_types,
                    rescue=rescue,
                )
                run = self._places.run(number, call, writes=False)
                task = asyncio.create_task(run, name=f"claim-{number}")
                self._late[task] = (number, share)
                started.append(task)
            jobs += await self._gathered(started)
        return jobs

    def _chosen(self, free: int) -> Sequence[int]:
        """The next due partitions, beginning behind the last ones; no longer due from now on."""
        busy = {number for number, _ in self._late.values()}
        ready = [
            number
            for number in self._due
            if number not in busy and not self._places.all[number].is_paused
        ]
        if self._delivers:
            ready = [number for number in ready if number in self._checks.with_webhooks]
        ready.sort(key=lambda number: (number - self._next) % self._places.count)
        # Few slots are filled from one partition, by one statement; the next claim is another's.
        chosen = ready[: max(1, min(free // _SHARE_MIN, _PARALLEL_MAX))]
        if chosen:
            self._next = chosen[-1] + 1
            self._due.difference_update(chosen)
        return chosen

    async def _gathered(self, started: Sequence[asyncio.Task[Sequence[Job]]]) -> list[Job]:
        """The jobs of the claims that respond in time; those of the others arrive later."""
        await asyncio.wait(started, timeout=_TOGETHER_SECONDS)
        jobs: list[Job] = []
        for task in started:
            if task.done():
                jobs += self._ended(task)
            else:
                task.add_done_callback(self._arrive)
        return jobs

    def _arrive(self, task: asyncio.Task[Sequence[Job]]) -> None:
        if task in self._late:  # else it was gathered
            self._arrived += self._ended(task)
            self.wake()

    def _ended(self, task: asyncio.Task[Sequence[Job]]) -> Sequence[Job]:
        number, share = self._late.pop(task)
        if not task.cancelled() and isinstance(task.exception(), LumaMemoryError):
            return ()  # noted with its partition; the next check shows what is due there
        if task.cancelled():
            return ()
        jobs = task.result()
        if len(jobs) == share:
            self._due.add(number)
        return jobs

    async def release_late(self, worker_id: str) -> None:
        """Release jobs whose claims responded after the worker had stopped claiming.

        Those that cannot be released now are taken over, as this worker has ended.
        """
        if self._late:
            await asyncio.wait(self._late, timeout=_RECONCILE_SECONDS)
        for task in [task for task in self._late if task.done()]:
            self._arrived += self._ended(task)
        jobs, self._arrived = self._arrived, []
        if jobs:
            with contextlib.suppress(LumaMemoryError):
                await self.release(worker_id, jobs)

    def take_arrived(self, number: int) -> Sequence[Job]:
        """Jobs of a partition that arrived late, and for which there was no slot."""
        taken = [job for job in self._arrived if job.partition == number]
        self._arrived = [job for job in self._arrived if job.partition != number]
        return taken

    async def complete(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        done: Sequence[bool] = await self._complete(worker_id, jobs)
        return done

    async def release(
        self, worker_id: str, jobs: Sequence[Job], *, run_at: datetime | None = None
    ) -> Sequence[bool]:
        released: Sequence[bool] = await self._release(worker_id, jobs, run_at=run_at)
        return released

    async def fail(
        self, worker_id: str, job: Job, failure: Failure, *, backoff: timedelta
    ) -> bool | None:
        return await self._routed.of_job(
            job, lambda queue: queue.fail(worker_id, job, failure, backoff=backoff)
        )

    async def cancel(self, worker_id: str, job: Job, reason: str) -> bool:
        return await self._routed.of_job(job, lambda queue: queue.cancel(worker_id, job, reason))

    async def rescue(self, worker_id: str) -> int:
        await self._checks.fresh(is_idle=False)
        busy = [n for n in self._checks.busy if not self._places.all[n].is_paused]
        outcomes = await self._routed.outcomes(lambda queue: queue.rescue(worker_id), numbers=busy)
        rescued = {
            number: outcome
            for number, outcome in zip(busy, outcomes, strict=True)
            if not isinstance(outcome, LumaMemoryError)
        }
        self._due.update(number for number, count in rescued.items() if count)
        return sum(rescued.values())

    async def claimed_jobs(self, worker_id: str) -> Sequence[Job]:
        found = await self._routed.all(lambda queue: queue.claimed_jobs(worker_id))
        return [job for jobs in found for job in jobs]

    async def stats(self) -> JobStats:
        return await stats(self._routed)

    def parts(self, running: Sequence[Job]) -> Mapping[int, ClaimedJobs]:
        if self._places.moves_users or any(map(self._was_moved, running)):
            # A job may be in another partition than the one where it was claimed.
            whole = ClaimedAnywhere(self)
            return dict.fromkeys({HOME, *(job.partition for job in running)}, whole)
        numbers = {job.partition for job in running} | set(self._checks.busy)
        return {
            number: _Part(self, self._places, number, self._queues[number])
            for number in sorted(numbers)
            if not self._places.all[number].is_away
        }

    def _was_moved(self, job: Job) -> bool:
        return bool(job.scope.user_id) and self._places.number_of(job.scope) != job.partition


class ClaimedAnywhere:
    """For the reconciler, while users are moved between partitions: the claimed jobs of all."""

    def __init__(self, queue: PartitionedQueue) -> None:
        self._queue = queue

    async def release(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        return await self._queue.release(worker_id, jobs)

    async def claimed_jobs(self, worker_id: str) -> Sequence[Job]:
        return await self._queue.claimed_jobs(worker_id)


class _Part:
    """The queue of one partition for the reconciler, which claims wait for."""

    def __init__(
        self,
        whole: PartitionedQueue,
        places: Places,
        number: int,
        queue: JobQueue,
    ) -> None:
        self._whole = whole
        self._places = places
        self._number = number
        self._queue = queue

    async def release(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        return await self._places.run(
            self._number, lambda: self._queue.release(worker_id, jobs), writes=True
        )

    async def claimed_jobs(self, worker_id: str) -> Sequence[Job]:
        """Without those that arrived late and wait for a slot, which are given back: their leases
        run, and no slot has them."""
        if waiting := self._whole.take_arrived(self._number):
            await self.release(worker_id, waiting)
        try:
            return await self._places.run(
                self._number,
                lambda: within(self._queue.claimed_jobs(worker_id), _RECONCILE_SECONDS),
                writes=False,
            )
        except TimeoutError:
            raise StoreUnavailable(f"Partition {self._number} does not respond in time") from None
