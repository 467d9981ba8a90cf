"""One job from its handler's answer to what is written down about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.errors import (
    InvariantError,
    LumaMemoryError,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StoreUnavailable,
)
from luma_memory.domain.job import (
    Cancel,
    Defer,
    Done,
    ErrorClass,
    Failure,
    Job,
    JobStats,
    JobType,
    Outcome,
)
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.ports.jobs import ClaimedJobs
from luma_memory.telemetry.events import JobCancelled, JobCompleted, JobDeferred, JobFailed, JobLost
from luma_memory.testing.event_log import EventLog

NOW = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
SECRET = "Caroline's secret"


@dataclass
class FixedClock:
    seconds: float = 0.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class NotedQueue:
    """A JobQueue that records its calls."""

    completed: list[int] = field(default_factory=list)
    is_holder: bool = True  # as the database sees it
    cancelled: list[int] = field(default_factory=list)
    failed: list[tuple[int, Failure, timedelta]] = field(default_factory=list)
    released: list[tuple[int, datetime | None]] = field(default_factory=list)
    is_away: bool = False

    def parts(self, running: Sequence[Job]) -> Mapping[int, ClaimedJobs]:
        raise NotImplementedError

    async def claim(
        self,
        worker_id: str,
        *,
        limit: int,
        lease: timedelta,
        job_types: Sequence[JobType],
        rescue: bool,
    ) -> Sequence[Job]:
        return []

    async def complete(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
        self.completed += [job.id for job in jobs if self.is_holder]
        return [self.is_holder] * len(jobs)

    async def fail(self, worker_id: str, job: Job, failure: Failure, *, backoff: timedelta) -> bool:
        self.failed.append((job.id, failure, backoff))
        return failure.final or job.is_last_attempt

    async def release(
        self, worker_id: str, jobs: Sequence[Job], *, run_at: datetime | None = None
    ) -> Sequence[bool]:
        self.released += [(job.id, run_at) for job in jobs if self.is_holder]
        return [self.is_holder] * len(jobs)

    async def rescue(self, worker_id: str) -> int:
        return 0

    async def claimed_jobs(self, worker_id: str) -> Sequence[Job]:
        return []

    async def cancel(self, worker_id: str, job: Job, reason: str) -> bool:
        self.cancelled += [job.id] if self.is_holder else []
        return self.is_holder

    async def stats(self) -> JobStats:
        if self.is_away:
            raise StoreUnavailable("away")
        return JobStats(0, 0, 0, 0, 0, None)


@dataclass
class Ran:
    queue: NotedQueue
    events: EventLog
    bugs: list[BaseException]


def _job(attempt: int = 1) -> Job:
    return Job(7, Scope("default", "caroline"), "enrich_and_embed", None, attempt, 3)


async def _run(
    outcome: Outcome | BaseException,
    *,
    attempt: int = 1,
    backoff: timedelta = timedelta(seconds=1),
    deadline: timedelta = timedelta(seconds=30),
    hang: bool = False,
    is_holder: bool = True,
    is_away: bool = False,
    was_away: bool = False,
    record_timeout: timedelta = timedelta(0),
    handled: Callable[[Job], None] = lambda _job: None,
) -> Ran:
    async def handler(_job: Job) -> Outcome:
        if hang:
            await asyncio.Event().wait()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    ran = Ran(NotedQueue(is_holder=is_holder, is_away=is_away), EventLog(), [])
    runner = JobRunner(
        ran.queue,
        {"enrich_and_embed": handler},
        worker_id="worker-1",
        timeout=deadline,
        backoff=backoff,
        record_timeout=record_timeout,
        clock=FixedClock(),
        emit=ran.events,
        report_bug=lambda _message, error: ran.bugs.append(error),
        was_away_since=lambda _moment: was_away,
    )
    await runner.run(_job(attempt), handled=handled)
    return ran


async def test_done_completes_the_job() -> None:
    ran = await _run(Done())
    assert ran.queue.completed == [7]
    assert [event.message() for event in ran.events.of(JobCompleted)] == [
        "✅ Job completed: enrich_and_embed (0ms)"
    ]


@pytest.mark.parametrize(
    "outcome", [Done(), Cancel("no block"), Defer(datetime(2026, 1, 1, tzinfo=UTC), "later")]
)
async def test_a_completion_after_the_lease_is_reported_as_lost(outcome: Outcome) -> None:
    ran = await _run(outcome, is_holder=False)
    (lost,) = ran.events.of(JobLost)
    assert (lost.job_id, lost.attempt) == (7, 1)
    assert not [*ran.events.of(JobCompleted), *ran.events.of(JobCancelled)]
    assert not ran.events.of(JobDeferred)


async def test_jobs_that_end_together_share_a_statement() -> None:
    statements: list[list[int]] = []

    class CountedQueue(NotedQueue):
        async def complete(self, worker_id: str, jobs: Sequence[Job]) -> Sequence[bool]:
            statements.append([job.id for job in jobs])
            await asyncio.sleep(0)
            return [True] * len(jobs)

    async def done(_job: Job) -> Outcome:
        return Done()

    runner = JobRunner(
        CountedQueue(),
        {"enrich_and_embed": done},
        worker_id="worker-1",
        timeout=timedelta(seconds=30),
        backoff=timedelta(seconds=1),
        record_timeout=timedelta(0),
        clock=FixedClock(),
        emit=EventLog(),
        report_bug=lambda _message, _error: None,
    )
    await asyncio.gather(*(runner.run(_job()._replace(id=number)) for number in range(20)))
    assert sorted(job_id for ids in statements for job_id in ids) == list(range(20))
    assert len(statements) <= 2


async def test_done_and_written_is_not_written_again() -> None:
    ran = await _run(Done(is_written=True))
    assert ran.queue == NotedQueue()
    assert len(ran.events.of(JobCompleted)) == 1


async def test_a_job_in_other_hands_is_left_alone() -> None:
    ran = await _run(Done(is_written=True, is_mine=False))
    assert ran.queue == NotedQueue()
    assert [type(event) for event in ran.events.events] == [JobLost]


async def test_a_result_write_is_retried_until_the_database_responds() -> None:
    tries = iter([StoreUnavailable("away"), None])

    async def write() -> bool:
        if (error := next(tries)) is not None:
            raise error
        return True

    ran = await _run(Done(write=write), record_timeout=timedelta(minutes=1))
    assert ran.queue == NotedQueue()
    assert len(ran.events.of(JobCompleted)) == 1


async def test_a_result_that_cannot_be_written_is_a_failed_attempt() -> None:
    async def write() -> bool:
        raise InvariantError("a bug")

    ran = await _run(Done(write=write))
    ((_, failure, _backoff),) = ran.queue.failed
    assert failure.error_class == "internal"
    assert not ran.events.of(JobCompleted)


async def test_a_job_is_handled_before_its_result_is_written() -> None:
    calls: list[str] = []

    async def write() -> bool:
        calls.append("written")
        return True

    await _run(Done(write=write), handled=lambda job: calls.append(f"handled {job.id}"))
    assert calls == ["handled 7", "written"]
    await _run(ProviderUnavailable("502"), handled=lambda job: calls.append(f"handled {job.id}"))
    assert calls[2:] == ["handled 7"]


async def test_cancel_ends_the_job() -> None:
    ran = await _run(Cancel("the job names no block"))
    assert ran.queue.cancelled == [7]
    assert ran.queue.failed == []


async def test_defer_hands_the_job_back_until_then() -> None:
    until = NOW + timedelta(minutes=5)
    ran = await _run(Defer(until, "quota"))
    assert ran.queue.released == [(7, until)]
    assert [event.seconds for event in ran.events.of(JobDeferred)] == [300.0]


async def test_a_rate_limit_consumes_no_attempt() -> None:
    ran = await _run(RateLimited("slow down", retry_after_seconds=42), attempt=3)
    assert ran.queue.released == [(7, NOW + timedelta(seconds=42))]
    assert ran.queue.failed == []


async def test_our_own_outage_spends_no_attempt() -> None:
    ran = await _run(StoreUnavailable("away"), attempt=3, backoff=timedelta(seconds=2))
    assert ran.queue.released == [(7, NOW + timedelta(seconds=2))]
    assert ran.queue.failed == []


@pytest.mark.parametrize(
    ("error", "error_class", "final"),
    [
        (ProviderUnavailable("502"), "provider", False),
        (ProviderTimeout("no answer"), "timeout", False),
        (ProviderRejected("bad key"), "provider_permanent", True),
        (ProviderResponseInvalid("no title"), "schema", False),
        (InvariantError("a bug"), "internal", False),
        (ValueError(SECRET), "internal", False),
        (ExceptionGroup(SECRET, [ValueError(SECRET)]), "internal", False),
    ],
)
async def test_raising_is_a_failed_attempt_of_its_class(
    error: Exception, error_class: ErrorClass, final: bool
) -> None:
    ran = await _run(error)
    ((job_id, failure, _backoff),) = ran.queue.failed
    assert (job_id, failure.error_class, failure.final) == (7, error_class, final)
    assert SECRET not in failure.message
    (event,) = ran.events.of(JobFailed)
    assert event.message().startswith(f"❌ Job failed: enrich_and_embed ({error_class}: ")
    assert event.level == ("error" if final else "warning")
    assert SECRET not in event.message()
    # Only an unexpected exception is a bug to investigate.
    assert ran.bugs == ([] if isinstance(error, LumaMemoryError) else [error])


async def test_a_hanging_job_ends_at_its_deadline() -> None:
    ran = await _run(Done(), hang=True, deadline=timedelta(milliseconds=10))
    ((_, failure, _backoff),) = ran.queue.failed
    assert failure == Failure("timeout", "the job's time ran out")
    assert ran.bugs == []


@pytest.mark.parametrize("hang", [True, False])
@pytest.mark.parametrize(("is_away", "was_away"), [(True, False), (False, True)])
async def test_time_that_runs_out_in_an_outage_spends_no_attempt(
    is_away: bool, was_away: bool, hang: bool
) -> None:
    ran = await _run(
        ProviderTimeout("no answer"),
        attempt=3,
        hang=hang,
        deadline=timedelta(milliseconds=10),
        is_away=is_away,
        was_away=was_away,
    )
    assert ran.queue.released == [(7, NOW + timedelta(seconds=1))]
    assert ran.queue.failed == []
    (deferred,) = ran.events.of(JobDeferred)
    assert "PostgreSQL did not respond" in deferred.reason


async def test_other_failures_count_whatever_the_database_did() -> None:
    ran = await _run(ProviderUnavailable("502"), was_away=True)
    assert len(ran.queue.failed) == 1


async def test_a_cancelled_run_writes_nothing_down() -> None:
    with pytest.raises(asyncio.CancelledError):
        await _run(asyncio.CancelledError())


async def test_the_last_attempt_fails_for_good() -> None:
    ran = await _run(ProviderUnavailable("502"), attempt=3)
    assert [event.final for event in ran.events.of(JobFailed)] == [True]


@given(attempt=st.integers(1, 100), backoff_ms=st.integers(1, 86_400_000))
def test_the_backoff_doubles_with_jitter_and_has_a_ceiling(attempt: int, backoff_ms: int) -> None:
    backoff = timedelta(milliseconds=backoff_ms)
    ran = asyncio.run(_run(ProviderUnavailable("502"), attempt=attempt, backoff=backoff))
    ((_, _, waited),) = ran.queue.failed
    nominal = min(backoff_ms * 2 ** min(attempt - 1, 20), 3_600_000)
    assert 0.5 * nominal - 1 <= waited.total_seconds() * 1000 <= 1.5 * nominal + 1
