"""The jobs at work: each a plain task in one of a bounded number of slots.

A job leaves its slot when its handler has ended. What is left of it is written down beside the next
job: a slow commit keeps no provider waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.job import Job
from luma_memory.domain.ports import JobQueue
from luma_memory.pipeline.jobs import JobRunner
from luma_memory.telemetry.events import Emit, JobLost, WorkerRoundFailed

JobRun = tuple[int, int]  # id, attempt


class Slots:
    """Runs jobs side by side, at most `size` of them, and writes down as many others at most."""

    def __init__(
        self, queue: JobQueue, runner: JobRunner, *, worker_id: str, size: int, emit: Emit
    ) -> None:
        self._queue = queue
        self._runner = runner
        self._worker_id = worker_id
        self._size = size
        self._emit = emit
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._ending: set[JobRun] = set()  # runs that are only written down
        self._latest: dict[int, Job] = {}  # by id, the run that was started last
        self._freed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._when_idle: Callable[[], None] | None = None

    @property
    def free(self) -> int:
        return self._size - len(self._jobs) + min(len(self._ending), self._size)

    @property
    def running(self) -> Sequence[Job]:
        """Also those that are only written down."""
        return list(self._jobs.values())

    def start(self, job: Job) -> None:
        """Run a claimed job; returns at once.

        A run of the same job that is still at work was cancelled, and the job set off anew:
        attempts count from 1 again, so that only we can tell the two runs apart.
        """
        if (older := self._latest.get(job.id)) is not None:
            self.abandon([older])
        self._latest[job.id] = job
        if self._loop is None:  # to ask which one runs is a system call, for each job
            self._loop = asyncio.get_running_loop()
        task = self._loop.create_task(
            self._runner.run(job, handled=self._handled), name=f"job-{job.id}"
        )
        self._jobs[task] = job
        task.add_done_callback(self._ended)

    async def wait_for_free(self) -> None:
        """Return when there is a free slot."""
        while self.free <= 0:
            self._freed.clear()
            await self._freed.wait()

    def call_when_idle(self, call: Callable[[], None]) -> None:
        """Call once, when the last of the running jobs has ended."""
        self._when_idle = call

    def abandon(self, lost: Sequence[Job]) -> None:
        """Stop working on jobs that are no longer ours: cancelled, or taken over."""
        for task, job in self._jobs.items():
            if job in lost:
                task.cancel()
                self._emit(JobLost(job.id, job.job_type, job.attempt))

    async def hand_back(self, *, grace_seconds: float) -> int:
        """Let short work end, then release the rest without spending its attempts; how many.

        Where that cannot be written down any more, the lease brings the jobs back.
        """
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=grace_seconds)
        unfinished: Mapping[asyncio.Task[None], Job] = dict(self._jobs)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        if unfinished:
            with contextlib.suppress(LumaMemoryError):
                await self._queue.release(self._worker_id, list(unfinished.values()))
        return len(unfinished)

    def _handled(self, job: Job) -> None:
        self._ending.add((job.id, job.attempt))
        self._freed.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        job = self._jobs.pop(task)
        self._ending.discard((job.id, job.attempt))
        if self._latest.get(job.id) is job:
            del self._latest[job.id]
        self._freed.set()
        if not self._jobs and (call := self._when_idle) is not None:
            self._when_idle = None
            call()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, LumaMemoryError):
            # Its end could not be written down: the keeper or the lease brings it back.
            self._emit(WorkerRoundFailed("write-back", str(error)))
        elif error is not None:
            raise error  # ours to mend: the event loop logs it
