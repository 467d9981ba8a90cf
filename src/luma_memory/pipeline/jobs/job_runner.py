"""Run one claimed job: deadline, outcome, error class, backoff."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, assert_never

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.concurrency.deadline import TimeLimit
from luma_memory.concurrency.parted import Batches, parted
from luma_memory.concurrency.retries import ResultT, jittered, retry_until
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderTimeout,
    RateLimited,
    StoreUnavailable,
    is_outage,
)
from luma_memory.domain.job import (
    Cancel,
    Defer,
    Done,
    Failure,
    Handler,
    Job,
    JobType,
    Outcome,
    classify,
)
from luma_memory.pipeline.jobs.disabled_step import DisabledStep
from luma_memory.ports.jobs import JobQueue
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import (
    Emit,
    Event,
    JobCancelled,
    JobCompleted,
    JobDeferred,
    JobFailed,
    JobLost,
)

# Backoffs are spread, so that jobs that failed together are not retried together.
_BACKOFF_MAX = timedelta(hours=1)
COMPLETE_BATCH_MAX = 500
# How long a result is retried through a restart of the database, whatever the caller's timeout: a
# model call must not be repeated.
RESULT_RETRY_SECONDS = 10.0


class JobRunner:
    """Runs claimed jobs and records their outcomes.

    handlers: one per job type. A handler returns an Outcome or raises; an exception is a failed
    attempt, except that RateLimited and StoreUnavailable defer the job without consuming one.
    record_timeout: how long an outcome is retried while PostgreSQL is unavailable. was_away_since:
    whether PostgreSQL failed to respond to this process after that time of `clock.monotonic()`; a
    job that times out in such a period does not consume an attempt either. is_parted: whether jobs
    come from several partitions, whose results are recorded separately.
    """

    def __init__(
        self,
        queue: JobQueue,
        handlers: Mapping[JobType, Handler],
        *,
        worker_id: str,
        timeout: timedelta,
        backoff: timedelta,
        record_timeout: timedelta,
        clock: Clock,
        emit: Emit,
        report_bug: Callable[[str, BaseException], None],
        was_away_since: Callable[[float], bool] = lambda _moment: False,
        is_parted: bool = False,
    ) -> None:
        self._queue = queue
        # Jobs that end while a statement is in flight share the next one and its commit.
        self._completions: Batches[Job, bool] = parted(
            lambda: Coalescer(self._complete, items_max=COMPLETE_BATCH_MAX, is_shared=is_outage),
            (lambda job: job.partition) if is_parted else None,
        )
        self._handlers = handlers
        self._worker_id = worker_id
        self._timeout_seconds = timeout.total_seconds()
        self._backoff = backoff
        self._settle_seconds = record_timeout.total_seconds()
        self._clock = clock
        self._emit = emit
        self._report_bug = report_bug
        self._was_away_since = was_away_since

    @property
    def job_types(self) -> list[JobType]:
        """The job types with a handler."""
        return list(self._handlers)

    def works_on(self, job_type: JobType) -> bool:
        """Whether jobs of a type are processed here rather than cancelled."""
        handler = self._handlers.get(job_type)
        return handler is not None and not isinstance(handler, DisabledStep)

    def run(
        self, job: Job, *, handled: Callable[[Job], None] = lambda _job: None
    ) -> Coroutine[Any, Any, None]:
        """Run the job once. Raises StoreUnavailable when its outcome cannot be recorded.

        handled: called when the handler has ended. Only the database is involved from then on, so
        another job may start.
        """
        if not spans.is_on():
            return self._run(job, handled)
        return self._traced(job, handled)

    async def _traced(self, job: Job, handled: Callable[[Job], None]) -> None:
        with spans.span(
            job.job_type, kind="consumer", parent=_parent(job), values=_span_values(job)
        ):
            await self._run(job, handled)

    async def _run(self, job: Job, handled: Callable[[Job], None]) -> None:
        started = self._clock.monotonic()
        try:
            with TimeLimit(self._timeout_seconds):
                outcome = await self._handlers[job.job_type](job)
        except Exception as error:
            handled(job)
            await self._raised(job, error, started)
            return
        handled(job)
        await self._ended(job, outcome, started)

    async def _raised(self, job: Job, error: Exception, started: float) -> None:
        until = self._clock.now() + self._backoff
        match error:
            case RateLimited():
                until = self._clock.now() + timedelta(seconds=error.retry_after_seconds)
                await self._ended(job, Defer(until, str(error)), started)
            case StoreUnavailable():
                # A database outage consumes no attempt.
                await self._ended(job, Defer(until, str(error)), started)
            case TimeoutError() | ProviderTimeout() if await self._was_delayed_by_outage(started):
                reason = "the job timed out while PostgreSQL did not respond"
                await self._ended(job, Defer(until, reason), started)
            case _:
                await self._failed(job, error)

    async def _was_delayed_by_outage(self, started: float) -> bool:
        """Whether PostgreSQL was unavailable during the job, or is now.

        Checks with a read-only statement: a frozen server executes what it received once it
        resumes, which would include a failure that is already obsolete.
        """
        try:
            await self._queue.stats()
        except StoreUnavailable:
            return True
        return self._was_away_since(started)

    async def _ended(self, job: Job, outcome: Outcome, started: float) -> None:
        if spans.is_on():
            spans.current().set({"luma.job.outcome": type(outcome).__name__.lower()})
        match outcome:
            case Done():
                is_mine = outcome.is_mine
                if outcome.write is not None:
                    try:
                        is_mine = await retry_until(
                            outcome.write,
                            retry_on=StoreUnavailable,
                            timeout_seconds=max(self._settle_seconds, RESULT_RETRY_SECONDS),
                        )
                    except StoreUnavailable:
                        raise
                    except Exception as error:
                        await self._failed(job, error)
                        return
                elif not outcome.is_written:
                    is_mine = await self._completed(job)
                milliseconds = round((self._clock.monotonic() - started) * 1000)
                self._emit_if_mine(job, is_mine, JobCompleted(job.id, job.job_type, milliseconds))
            case Cancel():
                is_mine = await self._settle(
                    lambda: self._queue.cancel(self._worker_id, job, outcome.reason)
                )
                self._emit_if_mine(job, is_mine, JobCancelled(job.id, job.job_type, outcome.reason))
            case Defer():
                (is_mine,) = await self._settle(
                    lambda: self._queue.release(self._worker_id, [job], run_at=outcome.until)
                )
                seconds = (outcome.until - self._clock.now()).total_seconds()
                self._emit_if_mine(
                    job, is_mine, JobDeferred(job.id, job.job_type, seconds, outcome.reason)
                )
            case _:
                assert_never(outcome)

    def _emit_if_mine(self, job: Job, is_mine: bool, event: Event) -> None:
        self._emit(event if is_mine else JobLost(job.id, job.job_type, job.attempt))

    async def _completed(self, job: Job) -> bool:
        try:
            return await self._completions.submit(job)
        except StoreUnavailable:
            return await self._settle(lambda: self._completions.submit(job))

    async def _complete(self, jobs: Sequence[Job]) -> Sequence[bool]:
        return await self._queue.complete(self._worker_id, jobs)

    async def _failed(self, job: Job, error: Exception) -> None:
        failure = classify(error)
        spans.current().set({"luma.job.outcome": "failed", "luma.job.error": failure.error_class})
        spans.current().failed(error)
        if failure.error_class == "internal" and not isinstance(error, LumaMemoryError):
            self._report_bug("A job raised an unexpected exception", error)
        backoff = self._backoff_after(job)
        final = await self._settle(
            lambda: self._queue.fail(self._worker_id, job, failure, backoff=backoff)
        )
        if final is None:
            self._emit(JobLost(job.id, job.job_type, job.attempt))
        else:
            self._emit(_failed_event(job, failure, final=final))

    async def _settle(self, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        return await retry_until(
            attempt, retry_on=StoreUnavailable, timeout_seconds=self._settle_seconds
        )

    def _backoff_after(self, job: Job) -> timedelta:
        grown: timedelta = self._backoff * 2 ** min(job.attempt - 1, 20)
        return timedelta(seconds=jittered(min(grown, _BACKOFF_MAX).total_seconds()))


def _parent(job: Job) -> str:
    """The trace of the request that created the job, or a new one."""
    return str(job.payload.get("traceparent", spans.NEW_TRACE))


def _span_values(job: Job) -> spans.Values:
    return {
        "luma.job.id": job.id,
        "luma.job.attempt": job.attempt,
        "luma.block.id": job.block_id,
    }


def _failed_event(job: Job, failure: Failure, *, final: bool) -> JobFailed:
    return JobFailed(job.id, job.job_type, job.attempt, failure.error_class, failure.message, final)
