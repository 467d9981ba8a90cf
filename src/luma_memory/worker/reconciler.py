"""Reconcile the running jobs with the jobs that the table assigns to this worker.

Missing in the table: cancelled by an operator or taken over; the run is aborted. Missing in the
slots: the result of a claim was lost with its connection; the job is released without spending an
attempt. A difference counts only after two consecutive checks: a job may just be ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.job import Job
from luma_memory.ports.jobs import ClaimedJobs, JobQueue
from luma_memory.worker.slots import JobRun, Slots


class Reconciler:
    """`check` is one round of the comparison."""

    def __init__(
        self, queue: JobQueue, slots: Slots, *, worker_id: str, claiming: asyncio.Lock
    ) -> None:
        self._queue = queue
        self._slots = slots
        self._worker_id = worker_id
        self._claiming = claiming
        # By partition.
        self._lost: dict[int, set[JobRun]] = {}
        self._orphaned: dict[int, set[JobRun]] = {}

    async def check(self) -> None:
        """Raises StoreUnavailable, after all partitions that respond were checked."""
        failed: LumaMemoryError | None = None
        for partition, queue in self._queue.parts(self._slots.running).items():
            try:
                await self._check(partition, queue)
            except LumaMemoryError as error:
                failed = error
        if failed is not None:
            raise failed

    async def _check(self, partition: int, queue: ClaimedJobs) -> None:
        async with self._claiming:
            before = _runs(self._slots.running)
            claimed = await queue.claimed_jobs(self._worker_id)
            running = [
                job
                for job in self._slots.running
                if job.partition == partition and (job.id, job.attempt) in before
            ]
        ours = _runs(claimed)
        lost = [job for job in running if (job.id, job.attempt) not in ours]
        orphaned = [job for job in claimed if (job.id, job.attempt) not in before]
        lost_before = self._lost.get(partition, set())
        self._slots.abandon([job for job in lost if (job.id, job.attempt) in lost_before])
        orphaned_before = self._orphaned.get(partition, set())
        again = [job for job in orphaned if (job.id, job.attempt) in orphaned_before]
        if again:
            await queue.release(self._worker_id, again)
        self._lost[partition], self._orphaned[partition] = _runs(lost), _runs(orphaned)


def _runs(jobs: Iterable[Job]) -> set[JobRun]:
    return {(job.id, job.attempt) for job in jobs}
