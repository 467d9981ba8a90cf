"""Compare the jobs at work with the jobs the table says are ours.

Missing in the table: cancelled by an operator or taken over; the work on it is stopped. Missing in
the slots: the answer to a claim was lost with its connection; the job is handed back, its attempt
unspent. Either counts only when it is seen twice in a row: a job may just be ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from luma_memory.domain.job import Job
from luma_memory.ports.jobs import JobQueue
from luma_memory.worker.slots import JobRun, Slots


class Keeper:
    """One round of the comparison is `check`."""

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
            held = await self._queue.held(self._worker_id)
            running = [job for job in self._slots.running if (job.id, job.attempt) in before]
        ours = _runs(held)
        lost = [job for job in running if (job.id, job.attempt) not in ours]
        orphaned = [job for job in held if (job.id, job.attempt) not in before]
        self._slots.abandon([job for job in lost if (job.id, job.attempt) in self._lost])
        again = [job for job in orphaned if (job.id, job.attempt) in self._orphaned]
        if again:
            await self._queue.release(self._worker_id, again)
        self._lost, self._orphaned = _runs(lost), _runs(orphaned)


def _runs(jobs: Iterable[Job]) -> set[JobRun]:
    return {(job.id, job.attempt) for job in jobs}
