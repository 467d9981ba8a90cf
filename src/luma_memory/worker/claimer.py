"""Fill free slots: woken by notifications, by a freed slot, or by the poll interval."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta

from luma_memory.concurrency.retries import jittered
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.job import Job, JobType
from luma_memory.ports.jobs import JobQueue
from luma_memory.telemetry.events import Emit, WorkerRoundFailed
from luma_memory.worker.slots import Slots

_RETRY_SECONDS = (0.1, 5.0)
# Rows one statement claims: a large worker claims for one part of its slots while the jobs of the
# other part run and end.
CLAIM_MAX = 100
# Claims per round before the reconciler may compare.
CLAIMS_PER_ROUND_MAX = 16


class Claimer:
    """Claims as many jobs as there are free slots, in one statement for up to CLAIM_MAX of them.

    claiming: locked from before a claim until its jobs are in their slots, so that the reconciler
    sees a claimed job in both the slots and the table, or in neither.
    """

    def __init__(
        self,
        queue: JobQueue,
        slots: Slots,
        *,
        worker_id: str,
        job_types: Sequence[JobType],
        lease: timedelta,
        poll_interval: timedelta,
        emit: Emit,
    ) -> None:
        self.claiming = asyncio.Lock()
        self._queue = queue
        self._slots = slots
        self._worker_id = worker_id
        self._job_types = job_types
        self._lease = lease
        self._poll_seconds = poll_interval.total_seconds()
        self._emit = emit
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Signal that there may be work. Never blocks."""
        self._awake.set()

    async def loop(self) -> None:
        """Claim until cancelled; jobs of the last claim still get their slots."""
        retry_seconds = _RETRY_SECONDS[0]
        while True:
            await self._slots.wait_for_free()
            self._awake.clear()
            try:
                is_drained = await self._fill()
            except LumaMemoryError as error:
                self._emit(WorkerRoundFailed("claim", str(error)))
                await asyncio.sleep(jittered(retry_seconds))
                retry_seconds = min(retry_seconds * 2, _RETRY_SECONDS[1])
                continue
            retry_seconds = _RETRY_SECONDS[0]
            if is_drained:
                # Not `asyncio.wait_for`: before Python 3.12 it loses a cancellation that arrives
                # together with a wake-up, as when the last job ends while the worker stops.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._awake.wait()

    async def _fill(self) -> bool:
        """Claim for the free slots; True when the queue had fewer jobs than requested.

        While slots are left, the next statement is sent before the jobs of the last one start:
        the database claims while this process works.
        """
        async with self.claiming:
            limit = self._limit(self._slots.free)
            if limit == 0:  # a slot that was expected to become free has not
                return False
            claim = self._send(limit)
            try:
                for _ in range(CLAIMS_PER_ROUND_MAX):
                    jobs = await asyncio.shield(claim)
                    ahead = self._limit(self._slots.free - len(jobs))
                    if len(jobs) < limit or ahead == 0:
                        break
                    claim, limit = self._send(ahead), ahead
                    try:
                        await asyncio.sleep(0)
                    finally:
                        self._start(jobs)
                else:
                    jobs = await asyncio.shield(claim)
            except asyncio.CancelledError:
                # Stopping: jobs that the statement still claims must be released.
                with contextlib.suppress(LumaMemoryError):
                    self._start(await claim)
                raise
            self._start(jobs)
            if any(job.is_last_attempt for job in jobs):
                # It may be claimed alone because it killed its last worker; then the queue has
                # more jobs to claim after this one.
                self._slots.call_when_idle(self.wake)
            return len(jobs) < limit

    def _send(self, limit: int) -> asyncio.Task[Sequence[Job]]:
        return asyncio.create_task(self._claim(limit))

    @staticmethod
    def _limit(free: int) -> int:
        return max(0, min(free, CLAIM_MAX))

    async def _claim(self, limit: int) -> Sequence[Job]:
        return await self._queue.claim(
            self._worker_id,
            limit=limit,
            lease=self._lease,
            job_types=self._job_types,
            rescue=False,
        )

    def _start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._slots.start(job)
