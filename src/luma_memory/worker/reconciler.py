"""Reconcile the running jobs with the jobs that the table assigns to this worker.

Missing in the table: cancelled by an operator or taken over; the run is aborted. Missing in the
slots: the result of a claim was lost with its connection; the job is released without spending an
attempt. A difference counts only after two consecutive checks: a job may just be ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from luma_memory.domain.job import Job
from luma_memory.ports.jobs import JobQueue
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
        self._lost: set[JobRun] = set()
        self._orphaned: set[JobRun] = set()

    async def check(self) -> None:
        """Raises StoreUnavailable."""
        async with self._claiming:
            before = _runs(self._slots.running)
            claimed = await self._queue.claimed_jobs(self._worker_id)
            running = [job for job in self._slots.running if (job.id, job.attempt) in before]
        ours = _runs(claimed)
        lost = [job for job in running if (job.id, job.attempt) not in ours]
        orphaned = [job for job in claimed if (job.id, job.attempt) not in before]
        self._slots.abandon([job for job in lost if (job.id, job.attempt) in self._lost])
        again = [job for job in orphaned if (job.id, job.attempt) in self._orphaned]
        if again:
            await self._queue.release(self._worker_id, again)
        self._lost, self._orphaned = _runs(lost), _runs(orphaned)


def _runs(jobs: Iterable[Job]) -> set[JobRun]:
    return {(job.id, job.attempt) for job in jobs}
