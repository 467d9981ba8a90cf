"""The worker's duties on a real database: starting and stopping them, and what a round does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from tests.support.machine_load import within
from tests.support.postgres_majors import every_postgres
from tests.support.running import LEASE, Plan, ingest, job_row, read, working

from luma_memory.domain.clock import Clock, SystemClock
from luma_memory.domain.errors import StoreUnavailable
from luma_memory.domain.job import Done, Handler, Job, JobFilter, JobType, Outcome
from luma_memory.pipeline.jobs.job_runner import JobRunner
from luma_memory.ports.jobs import ClaimedJobs
from luma_memory.postgres.database import Database
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.session import WorkerSession, new_worker_id
from luma_memory.queue.upkeep import PostgresQueueUpkeep
from luma_memory.telemetry.events import JobCompleted, JobLost
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import QuotingEnricher
from luma_memory.testing.sample_blocks import new_block
from luma_memory.worker.duty import Duty, periodic
from luma_memory.worker.worker import Worker, WorkerTimes

pytestmark = every_postgres

DUTIES = ["claim", "rescue", "keep", "prune", "health check", "schedule"]
SHORT = timedelta(milliseconds=40)
NEVER = timedelta(hours=1)
DAY = timedelta(days=1)
RETRY_SECONDS = 60


class FixedClock:
    """A clock that a test sets."""

    def __init__(self, now: datetime) -> None:
        self.instant = now

    def now(self) -> datetime:
        return self.instant

    def monotonic(self) -> float:
        return time.monotonic()


class Rounds:
    """A queue and an upkeep that say which duty has done its work."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wrapped = (PostgresJobQueue(database), PostgresQueueUpkeep(database))
        self.done: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    def __getattr__(self, name: str) -> Any:
        method = next(getattr(part, name) for part in self._wrapped if hasattr(part, name))

        async def call(*values: Any, **options: Any) -> Any:
            try:
                return await method(*values, **options)
            finally:
                async with self._changed:
                    self.done[name] += 1
                    self._changed.notify_all()

        return call

    def parts(self, running: Sequence[Job]) -> Mapping[int, ClaimedJobs]:
        """This one, for the one partition."""
        parts = PostgresJobQueue(self._database).parts(running)
        return {partition: cast("ClaimedJobs", self) for partition in parts}

    async def wait_for(self, name: str, *, more: int = 1) -> None:
        goal = self.done[name] + more
        async with asyncio.timeout(RETRY_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.done[name] >= goal)


# What each duty asks for in a round.
WORK = {
    "claim": "claim",
    "rescue": "rescue",
    "keep": "claimed_jobs",
    "prune": "prune",
    "health check": "stats",
    "schedule": "schedule_weekly_summaries",
}


async def _nothing(_job: Job) -> Outcome:
    return Done()


def _worker(
    database: Database,
    rounds: Any,
    *,
    clock: Clock | None = None,
    times: WorkerTimes | None = None,
    handlers: Mapping[JobType, Handler] | None = None,
    events: EventLog | None = None,
) -> Worker:
    worker_id, emit = new_worker_id(), events or EventLog()
    runner = JobRunner(
        rounds,
        handlers or {"weekly_summary": _nothing},
        worker_id=worker_id,
        timeout=timedelta(seconds=60),
        backoff=SHORT,
        record_timeout=timedelta(seconds=60),
        clock=clock or SystemClock(),
        emit=emit,
        report_bug=lambda _message, _error: None,
    )
    return Worker(
        rounds,
        rounds,
        runner,
        WorkerSession(database, worker_id),
        concurrent_jobs_max=5,
        times=times or WorkerTimes(LEASE, *[SHORT] * 4),
        clock=clock or SystemClock(),
        emit=emit,
    )


def _duty(worker: Worker, name: str) -> Duty:
    (duty,) = (duty for duty in worker._duties if duty.name == name)
    return duty


def _tasks(name: str) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == name]


@asynccontextmanager
async def _at_work(worker: Worker) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, RETRY_SECONDS)


# Starting and stopping


def test_the_worker_has_these_duties(database: Database) -> None:
    assert [duty.name for duty in _worker(database, Rounds(database))._duties] == DUTIES


@pytest.mark.parametrize("name", DUTIES)
async def test_a_duty_starts_and_stops_in_any_order(name: str, database: Database) -> None:
    rounds = Rounds(database)
    duty = _duty(_worker(database, rounds), name)
    await duty.stop()
    for _ in range(2):
        duty.start()
        duty.start()
        assert len(_tasks(name)) == 1
        await rounds.wait_for(WORK[name], more=2)
        await asyncio.gather(duty.stop(), duty.stop())
        await duty.stop()
        assert _tasks(name) == []


# Rescue


async def test_a_rescued_job_runs_at_once(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    lost = timedelta(0)
    await PostgresJobQueue(database).claim(
        "w0", limit=1, lease=lost, job_types=["enrich_and_embed"], rescue=False
    )
    async with working(database, Plan(poll_interval=timedelta(seconds=2))) as worker:
        await worker.events.wait_for(JobCompleted)
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"]) == ("completed", 2)
    # Not at the next poll: a rescue wakes the workers.
    (started,) = await connection.fetch("SELECT started_at FROM memory_workers WHERE completed = 1")
    assert row["finished_at"] - started["started_at"] < timedelta(seconds=1.5)


# Pruning


async def _ended_jobs(connection: asyncpg.Connection, status: str, count: int, key: str) -> None:
    """Jobs that ended now; one of them has a unique key."""
    await connection.execute(
        "INSERT INTO memory_jobs (user_id, job_type, status, finished_at, unique_key)"
        " SELECT 'ada', 'weekly_summary', $1, now(), CASE WHEN n = 1 THEN $3 END"
        " FROM generate_series(1, $2::integer) AS n",
        status,
        count,
        key,
    )


async def _left(connection: asyncpg.Connection) -> dict[str, int]:
    rows = await connection.fetch("SELECT status, count(*) AS n FROM memory_jobs GROUP BY status")
    return {row["status"]: row["n"] for row in rows}


async def test_pruning_deletes_by_the_clock_and_keeps_totals_and_unique_keys(
    database: Database, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO memory_workers (id, completed) VALUES ('w0', 2500)")
    await _ended_jobs(connection, "completed", 2_500, "week 1")
    await _ended_jobs(connection, "cancelled", 10, "week 2")
    await _ended_jobs(connection, "failed", 10, "week 3")
    rounds, clock = Rounds(database), FixedClock(datetime.now(UTC))
    duty = _duty(_worker(database, rounds, clock=clock), "prune")
    everything = {"completed": 2_500, "cancelled": 10, "failed": 10}
    kept = [
        (timedelta(0), everything),
        (DAY - timedelta(minutes=1), everything),
        (DAY + timedelta(minutes=1), {"completed": 1, "cancelled": 1, "failed": 10}),
        (29 * DAY, {"completed": 1, "cancelled": 1, "failed": 10}),
        (30 * DAY + timedelta(hours=1), {"completed": 1, "cancelled": 1}),
        (31 * DAY + timedelta(hours=1), {}),
    ]
    started = clock.instant
    for age, left in kept:
        clock.instant = started + age
        duty.start()
        await rounds.wait_for("prune", more=4)
        await duty.stop()
        assert await _left(connection) == left, age
        assert (await PostgresJobQueue(database).stats()).completed == 2_500
    workers = await connection.fetch("SELECT id, completed FROM memory_workers")
    assert [tuple(row) for row in workers] == [("(gone)", 2_500)]


async def test_a_pruned_worker_that_comes_back_is_counted(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database)
    queue = PostgresJobQueue(database)
    (job,) = await queue.claim(
        "w0", limit=1, lease=LEASE, job_types=["enrich_and_embed"], rescue=False
    )
    assert await connection.fetchval("SELECT count(*) FROM memory_workers") == 0
    await queue.complete("w0", [job])
    assert (await queue.stats()).completed == 1


# Scheduling

ZONES = ["UTC", "America/Los_Angeles", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Marquesas"]
SKEWS = [timedelta(minutes=minutes) for minutes in (-2, 0, 2)]
SUNDAYS = [
    datetime(2026, 11, 22, tzinfo=UTC),
    datetime(2027, 1, 3, tzinfo=UTC),  # the last day of week 53
    datetime(2027, 3, 14, tzinfo=UTC),  # clocks change in Los Angeles
]


async def _users(connection: asyncpg.Connection, last_ingest_at: datetime) -> None:
    await connection.executemany(
        "INSERT INTO memory_users (user_id, time_zone, last_ingest_at) VALUES ($1, $1, $2)",
        [(zone, last_ingest_at) for zone in ZONES],
    )


async def _summaries(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """The first days of the weeks each user gets a summary of; once a job."""
    rows = await connection.fetch("SELECT user_id, payload FROM memory_jobs ORDER BY id")
    found: dict[str, list[str]] = {zone: [] for zone in ZONES}
    for row in rows:
        found[row["user_id"]].append(row["payload"][len('{"week_start": "') : -len('"}')])
    return {zone: sorted(weeks) for zone, weeks in found.items()}


def _week_before(instant: datetime, zone: str) -> str:
    """The first day of the week that ended last, on the calendar of a time zone."""
    day = instant.astimezone(ZoneInfo(zone)).date()
    return (day - timedelta(days=day.weekday() + 7)).isoformat()


@pytest.mark.parametrize("sunday", SUNDAYS, ids=lambda day: day.date().isoformat())
async def test_three_schedulers_with_wrong_clocks_make_one_job_a_user_and_week(
    sunday: datetime, connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    await _users(connection, sunday - 2 * DAY)
    schedulers = [PostgresQueueUpkeep(connect_database()) for _ in SKEWS]
    expected: dict[str, set[str]] = {zone: set() for zone in ZONES}
    # Around midnight in every zone, each minute, all three at once.
    for zone in ZONES:
        midnight = (sunday + DAY).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        for minute in range(-4, 5):
            now = midnight + timedelta(minutes=minute)
            await asyncio.gather(
                *(
                    scheduler.schedule_weekly_summaries(now + skew, limit=1_000)
                    for scheduler, skew in zip(schedulers, SKEWS, strict=True)
                )
            )
            for user in ZONES:
                expected[user] |= {_week_before(now + skew, user) for skew in SKEWS}
    assert await _summaries(connection) == {zone: sorted(expected[zone]) for zone in ZONES}
    assert all(len(weeks) == 2 for weeks in expected.values())


async def test_schedulers_at_once_share_the_users(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    await connection.execute(
        "INSERT INTO memory_users (user_id, last_ingest_at)"
        " SELECT 'user ' || n, $1 FROM generate_series(1, 500) AS n",
        now - 3 * DAY,
    )
    schedulers = [PostgresQueueUpkeep(connect_database()) for _ in range(3)]

    async def schedule_all(scheduler: PostgresQueueUpkeep) -> int:
        rounds = [await scheduler.schedule_weekly_summaries(now, limit=60) for _ in range(30)]
        return sum(rounds)

    made = await asyncio.gather(*map(schedule_all, schedulers))
    assert sum(made) == 500
    assert await connection.fetchval("SELECT count(DISTINCT user_id) FROM memory_jobs") == 500
    assert await connection.fetchval("SELECT count(*) FROM memory_jobs") == 500


async def test_a_worker_schedules_by_its_clock_and_runs_what_is_due(
    database: Database, connection: asyncpg.Connection
) -> None:
    clock = FixedClock(datetime(2026, 11, 22, 23, 59, tzinfo=UTC))
    await connection.execute(
        "INSERT INTO memory_users (user_id, last_ingest_at) VALUES ('ada', '2026-11-16')"
    )
    rounds, events = Rounds(database), EventLog()
    async with _at_work(_worker(database, rounds, clock=clock, events=events)):
        await events.wait_for(JobCompleted)
        await rounds.wait_for("schedule_weekly_summaries", more=3)
        assert len(events.of(JobCompleted)) == 1
        clock.instant += timedelta(minutes=2)
        await events.wait_for(JobCompleted, count=2)
    keys = await connection.fetch("SELECT unique_key FROM memory_jobs ORDER BY id")
    assert [row["unique_key"] for row in keys] == [
        "weekly_summary:2026-W46",
        "weekly_summary:2026-W47",
    ]


# Keeping


class Hanging:
    """Work that does not end; reports when it was reached and when it was stopped."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.stopped = asyncio.Event()

    async def __call__(self, request: object) -> None:
        if "hang" not in str(request):
            return
        self.reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()


async def test_cancelling_a_running_job_stops_it_within_two_poll_intervals(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block("This one hangs.")
    (accepted,) = await ingest(database, block)
    hanging = Hanging()
    poll = timedelta(seconds=1)
    plan = Plan(enricher=QuotingEnricher(before=hanging), poll_interval=poll, concurrent_jobs_max=1)
    async with working(database, plan) as worker:
        await hanging.reached.wait()
        control = PostgresJobControl(database, attempts_max=3)
        named = JobFilter(project_id=None, ids=[accepted.job_id])
        started = time.monotonic()
        assert list(await control.cancel(named, limit=1)) == [accepted.job_id]
        await asyncio.wait_for(hanging.stopped.wait(), RETRY_SECONDS)
        waited = time.monotonic() - started
        # Its slot is free for others.
        await ingest(database, new_block("The next one."))
        await worker.events.wait_for(JobCompleted)
    # Two rounds, and what a busy machine adds.
    assert waited < within(2 * poll.total_seconds() + 1)
    assert [event.job_id for event in worker.events.of(JobLost)] == [accepted.job_id]
    assert (await job_row(connection, accepted.job_id))["status"] == "cancelled"
    stored = await read(database, block, accepted.id)
    assert (stored.status, stored.error) == ("failed", "its job was cancelled")


async def test_a_job_cancelled_and_sent_anew_runs_once_more_and_only_that_run_counts(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Both runs are attempt 1 of one worker: only the worker itself can distinguish them."""
    (accepted,) = await ingest(database, new_block("This one hangs."))
    hanging = Hanging()
    plan = Plan(enricher=QuotingEnricher(before=hanging), poll_interval=timedelta(milliseconds=50))
    async with working(database, plan) as worker:
        await hanging.reached.wait()
        hanging.reached.clear()
        control = PostgresJobControl(database, attempts_max=3)
        named = JobFilter(project_id=None, ids=[accepted.job_id])
        async with connection.transaction():  # the duty sees no state in between
            await connection.execute("SELECT cancel_memory_jobs($1)", [accepted.job_id])
            await connection.execute("SELECT retry_memory_jobs($1)", [accepted.job_id])
        await asyncio.wait_for(hanging.reached.wait(), RETRY_SECONDS)
        await asyncio.wait_for(hanging.stopped.wait(), RETRY_SECONDS)
        assert len(_tasks(f"job-{accepted.job_id}")) == 1
        await control.cancel(named, limit=1)
        await worker.events.wait_for(JobLost, count=2)
    assert (await job_row(connection, accepted.job_id))["status"] == "cancelled"


class CutOff(PostgresJobQueue):
    """The first claim that finds something is committed; the connection falls before its answer."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.lost: list[Job] = []

    async def claim(self, worker_id: str, **options: Any) -> Sequence[Job]:
        jobs = await super().claim(worker_id, **options)
        if jobs and not self.lost:
            self.lost = list(jobs)
            raise StoreUnavailable("PostgreSQL does not respond (ConnectionDoesNotExistError)")
        return jobs


async def test_a_claim_whose_response_was_lost_is_released_without_spending_an_attempt(
    database: Database, connection: asyncpg.Connection
) -> None:
    accepted = await ingest(database, *(new_block() for _ in range(3)), attempts_max=1)
    queue = CutOff(database)
    async with working(database, Plan(queue=queue, poll_interval=SHORT)) as worker:
        await worker.events.wait_for(JobCompleted, count=3)
    assert len(queue.lost) == 3
    rows = [await job_row(connection, response.job_id) for response in accepted]
    assert [(row["status"], row["attempts"]) for row in rows] == [("completed", 1)] * 3


async def test_a_job_that_is_just_ending_is_not_taken_for_lost(
    database: Database, connection: asyncpg.Connection
) -> None:
    """The duty runs constantly while many short jobs come and go; it handles none of them twice."""
    accepted = await ingest(database, *(new_block(f"Message {n}.") for n in range(300)))
    rounds, events = Rounds(database), EventLog()

    async def short(_job: Job) -> Outcome:
        await asyncio.sleep(0)
        return Done()

    worker = _worker(
        database,
        rounds,
        events=events,
        handlers={"enrich_and_embed": short},
        times=WorkerTimes(LEASE, NEVER, NEVER, NEVER, NEVER),
    )

    async def check() -> None:
        await worker._reconciler.check()
        while any(
            (job.id, job.attempt) in worker._reconciler._lost.get(job.partition, ())
            for job in worker._slots.running
        ):
            await events.wait_for(JobCompleted, count=len(events.of(JobCompleted)) + 1)
            await asyncio.sleep(0)  # the job leaves its slot after the event

    duty = periodic("keep often", check, every_seconds=0, emit=events)
    async with _at_work(worker):
        duty.start()
        await events.wait_for(JobCompleted, count=300)
        await duty.stop()
    assert rounds.done["claimed_jobs"] > 3
    assert events.of(JobLost) == []
    attempts = await connection.fetch("SELECT status, attempts FROM memory_jobs")
    assert Counter(map(tuple, attempts)) == {("completed", 1): len(accepted)}
