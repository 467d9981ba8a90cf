"""The running jobs: each a plain task in one of a bounded number of slots.

A job leaves its slot when its handler has ended. Its result is written back while the next job
runs: a slow commit keeps no provider waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.job import Job
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.ports.jobs import JobQueue
from luma_memory.telemetry.events import Emit, JobLost, WorkerRoundFailed

JobRun = tuple[int, int]  # id, attempt

# From requesting a job until it can start: a claim, and the event loop's other work.
LEAD_SECONDS = 0.03
# Jobs claimed ahead at most, as a share of the slots: another worker could have started them.
LEAD_SHARE = 0.1
# Number of recent job ends from which their rate is computed.
_ENDS_KEPT = 64
# If no slot becomes free within this time, no job is claimed ahead any more (64 ends in 1.9 s
# predict one), and jobs claimed ahead are released: their lease is meant for running.
AHEAD_SECONDS_MAX = 2.0


class Slots:
    """Runs at most `size` jobs concurrently, and writes back the results of at most as many others.

    Where jobs end fast, a few are claimed ahead: as many as will end before the claim returns.
    claims_ahead: False where that gains nothing, as with jobs that compute on this machine: the
    running jobs keep it busy, and jobs that start together share their statements.
    """

    def __init__(
        self,
        queue: JobQueue,
        runner: JobRunner,
        *,
        worker_id: str,
        size: int,
        emit: Emit,
        claims_ahead: bool = True,
    ) -> None:
        self._queue = queue
        self._runner = runner
        self._worker_id = worker_id
        self._size = size
        self._ahead_max = size * LEAD_SHARE if claims_ahead else 0.0
        self._emit = emit
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._ahead: deque[tuple[float, Job]] = deque()  # time of the claim, job
        self._giving_up: asyncio.TimerHandle | None = None
        self._releases: dict[asyncio.Task[None], Sequence[Job]] = {}
        self._ending: set[JobRun] = set()  # runs whose result is being written back
        self._latest: dict[int, Job] = {}  # by id, the latest run
        self._ends: deque[float] = deque(maxlen=_ENDS_KEPT)  # the loop's time
        self._freed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._when_idle: Callable[[], None] | None = None

    @property
    def free(self) -> int:
        """How many jobs may be claimed now."""
        return self._open() + self._lead() - len(self._ahead)

    @property
    def running(self) -> Sequence[Job]:
        """All claimed jobs, including those not started, being written back or being released."""
        ahead = (job for _, job in self._ahead)
        return [*self._jobs.values(), *ahead, *chain.from_iterable(self._releases.values())]

    @property
    def busy(self) -> int:
        """How many jobs occupy a slot: without those not started and those being written back."""
        return self._size - max(0, self._open())

    def start(self, job: Job) -> None:
        """Run a claimed job as soon as a slot is free; returns immediately.

        If an older run of the same job is still active, the job was cancelled and retried:
        attempts count from 1 again, so only this worker can distinguish the two runs.
        """
        if (older := self._latest.get(job.id)) is not None:
            self.abandon([older])
        if self._loop is None:  # looking it up for each job costs a system call
            self._loop = asyncio.get_running_loop()
        if self._ahead or self._open() <= 0:
            self._ahead.append((self._loop.time(), job))
            if self._giving_up is None:
                self._giving_up = self._loop.call_later(
                    AHEAD_SECONDS_MAX, self._give_up, self._loop
                )
        else:
            self._begin(job, self._loop)

    def _begin(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self._latest[job.id] = job
        task = loop.create_task(self._runner.run(job, handled=self._handled), name=f"job-{job.id}")
        self._jobs[task] = job
        task.add_done_callback(self._ended)

    async def wait_for_free(self) -> None:
        """Return when a job may be claimed."""
        while self.free <= 0:
            self._freed.clear()
            await self._freed.wait()

    def call_when_idle(self, call: Callable[[], None]) -> None:
        """Call once when the last running job has ended."""
        self._when_idle = call

    def abandon(self, lost: Sequence[Job]) -> None:
        """Abort jobs that no longer belong to this worker: cancelled, or taken over."""
        for task, job in self._jobs.items():
            if job in lost:
                task.cancel()
                self._emit(JobLost(job.id, job.job_type, job.attempt))
        for waiting in [waiting for waiting in self._ahead if waiting[1] in lost]:
            self._ahead.remove(waiting)
            job = waiting[1]
            self._emit(JobLost(job.id, job.job_type, job.attempt))

    async def release_all(self, *, grace_seconds: float) -> int:
        """Let short jobs end, then release the rest without spending attempts; returns how many.

        Jobs that cannot be released return to the queue when their lease expires.
        """
        if self._giving_up is not None:
            self._giving_up.cancel()
        ahead = [job for _, job in self._ahead]
        self._ahead.clear()
        self._start_release(ahead)  # before waiting: another worker can start them
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=grace_seconds)
        unfinished: Mapping[asyncio.Task[None], Job] = dict(self._jobs)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        self._start_release(list(unfinished.values()))
        await asyncio.gather(*self._releases)
        return len(unfinished) + len(ahead)

    def _start_release(self, jobs: Sequence[Job]) -> None:
        if jobs:
            task = asyncio.create_task(self._release(jobs))
            self._releases[task] = jobs
            task.add_done_callback(self._releases.pop)

    async def _release(self, jobs: Sequence[Job]) -> None:
        """On failure the reconciler releases the jobs later, or their lease expires."""
        with contextlib.suppress(LumaMemoryError):
            await self._queue.release(self._worker_id, jobs)

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Release jobs claimed ahead of slots that did not become free."""
        late = loop.time() - AHEAD_SECONDS_MAX
        jobs = []
        while self._ahead and self._ahead[0][0] <= late:
            jobs.append(self._ahead.popleft()[1])
        self._giving_up = None
        if self._ahead:
            self._giving_up = loop.call_at(
                self._ahead[0][0] + AHEAD_SECONDS_MAX, self._give_up, loop
            )
        self._start_release(jobs)

    def _open(self) -> int:
        """Slots without a job."""
        return self._size - len(self._jobs) + min(len(self._ending), self._size)

    def _lead(self) -> int:
        """Jobs that will end before a claim returns, at the recent rate."""
        if self._loop is None or len(self._ends) < _ENDS_KEPT or self._ahead_max < 1:
            return 0
        seconds = self._loop.time() - self._ends[0]
        expected = len(self._ends) * LEAD_SECONDS / seconds if seconds > 0 else self._size
        return int(min(expected, self._ahead_max))

    def _handled(self, job: Job) -> None:
        self._ending.add((job.id, job.attempt))
        assert self._loop is not None
        self._ends.append(self._loop.time())
        self._free_one()

    def _free_one(self) -> None:
        while self._ahead and self._open() > 0:
            assert self._loop is not None
            self._begin(self._ahead.popleft()[1], self._loop)
        self._freed.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        job = self._jobs.pop(task)
        self._ending.discard((job.id, job.attempt))
        if self._latest.get(job.id) is job:
            del self._latest[job.id]
        self._free_one()
        if not self._jobs and (call := self._when_idle) is not None:
            self._when_idle = None
            call()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, LumaMemoryError):
            # Its result could not be written back: the reconciler or the lease returns the job.
            self._emit(WorkerRoundFailed("write-back", str(error)))
        elif error is not None:
            raise error  # a bug: the event loop logs it
