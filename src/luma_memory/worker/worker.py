"""The worker: a few duties around one queue.

    claim      fill free slots; woken by notifications, by a freed slot, or by the poll interval
    rescue     take back what gone workers left
    health     one line now and then that says how things are
    session    (queue.session) heartbeat, session lock, LISTEN

Each job is a plain task. Stopping means: claim nothing more, let short work end, hand the rest
back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.job import Job
from luma_memory.domain.ports import JobQueue, WorkerPresence
from luma_memory.pipeline.jobs import JobRunner
from luma_memory.telemetry.events import (
    Emit,
    WorkerHealth,
    WorkerRoundFailed,
    WorkerStarting,
    WorkerStopped,
)

ResultT = TypeVar("ResultT")

STOP_GRACE_SECONDS = 5.0
_RETRY_SECONDS_MAX = 5.0


class Worker:
    """Runs jobs until it is stopped.

    lease: how long a claimed job stays ours without an answer; longer than the job timeout, so
    that only a worker that is really gone loses a job to it.
    """

    def __init__(
        self,
        queue: JobQueue,
        runner: JobRunner,
        presence: WorkerPresence,
        *,
        concurrent_jobs_max: int,
        lease: timedelta,
        poll_interval: timedelta,
        health_interval: timedelta,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._queue = queue
        self._runner = runner
        self._presence = presence
        self._concurrent_jobs_max = concurrent_jobs_max
        self._lease = lease
        self._poll_seconds = poll_interval.total_seconds()
        self._health_seconds = health_interval.total_seconds()
        self._clock = clock
        self._emit = emit
        self._running: dict[asyncio.Task[None], Job] = {}
        self._wake = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._duties: list[asyncio.Task[None]] = []
        self._rescue_due = True
        self._started = clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Raises what a duty died of, after handing jobs back."""
        self._emit(WorkerStarting(self._presence.worker_id, self._concurrent_jobs_max))
        await self._presence.start(running=lambda: len(self._running), on_signal=self._wake.set)
        self._duties = [
            asyncio.create_task(self._claim(), name="claim"),
            asyncio.create_task(self._rescue(), name="rescue"),
            asyncio.create_task(self._health(), name="health"),
        ]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait(
                [stopping, *self._duties], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            await asyncio.shield(self._stop(stopping))

    async def _stop(self, stopping: asyncio.Task[bool]) -> None:
        for task in (stopping, *self._duties):
            task.cancel()
        await asyncio.gather(stopping, *self._duties, return_exceptions=True)
        released = await self._hand_back()
        await self._presence.stop()
        self._emit(WorkerStopped(self._presence.worker_id, released))

    async def _hand_back(self) -> int:
        if not self._running:
            return 0
        await asyncio.wait(self._running, timeout=STOP_GRACE_SECONDS)
        unfinished = dict(self._running)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        if unfinished:
            with contextlib.suppress(LumaMemoryError):  # the lease brings them back
                await self._queue.release(self._presence.worker_id, list(unfinished.values()))
        return len(unfinished)

    async def _claim(self) -> None:
        while True:
            self._slot_freed.clear()
            free = self._concurrent_jobs_max - len(self._running)
            if free <= 0:
                await self._slot_freed.wait()
                continue
            self._wake.clear()
            jobs = await self._persistently("claim", self._claim_once)
            for job in jobs:
                self._start(job)
            if len(jobs) < free:
                await self._signal_or_poll()

    async def _claim_once(self) -> Sequence[Job]:
        rescue, self._rescue_due = self._rescue_due, False
        claiming = asyncio.create_task(
            self._queue.claim(
                self._presence.worker_id,
                limit=self._concurrent_jobs_max - len(self._running),
                lease=self._lease,
                job_types=self._runner.job_types,
                rescue=rescue,
            )
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # Stopping: what the statement claims all the same is to be handed back.
            with contextlib.suppress(LumaMemoryError):
                for job in await claiming:
                    self._start(job)
            raise

    async def _signal_or_poll(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout=self._poll_seconds)

    async def _rescue(self) -> None:
        # Half the poll interval: by default a killed worker's jobs start again within a second.
        while True:
            await asyncio.sleep(self._poll_seconds / 2)
            self._rescue_due = True
            self._wake.set()

    async def _health(self) -> None:
        while True:
            await asyncio.sleep(self._health_seconds)
            stats = await self._persistently("health check", self._queue.stats)
            self._emit(
                WorkerHealth(
                    uptime_seconds=round(self._clock.monotonic() - self._started),
                    jobs_processing=len(self._running),
                    pending=stats.pending,
                    processing=stats.processing,
                    completed=stats.completed,
                    failed=stats.failed,
                )
            )

    def _start(self, job: Job) -> None:
        task = asyncio.create_task(self._run_job(job), name=f"job-{job.id}")
        self._running[task] = job
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._slot_freed.set()

    async def _run_job(self, job: Job) -> None:
        try:
            await self._runner.run(job)
        except LumaMemoryError as error:
            # Its end could not be written down: the lease brings it back.
            self._emit(WorkerRoundFailed("write-back", str(error)))

    async def _persistently(self, duty: str, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """The result of `attempt`, tried again for as long as the database is away."""
        wait_seconds = 0.1
        while True:
            try:
                return await attempt()
            except LumaMemoryError as error:
                self._emit(WorkerRoundFailed(duty, str(error)))
            await asyncio.sleep(wait_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            wait_seconds = min(wait_seconds * 2, _RETRY_SECONDS_MAX)
