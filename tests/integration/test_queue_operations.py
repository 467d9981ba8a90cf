"""What operators do to a running queue: pause it, and read how attempts ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import LEASE, Plan, ingest, working

from luma_memory.domain.job import Done, Failure, Job, JobFilter, JobRecord, NewJob, Outcome
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.producer import PostgresJobProducer
from luma_memory.queue.session import WorkerSession
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import new_block

pytestmark = every_postgres

CAROLINE = Scope("default", "caroline")
TYPES = ("enrich_and_embed", "weekly_summary", "reembed")
EVERY = JobFilter(project_id=None)


async def _enqueue(database: Database, *types: str, attempts_max: int = 3) -> None:
    producer = PostgresJobProducer(database, attempts_max=attempts_max)
    await producer.enqueue([NewJob(CAROLINE, job_type) for job_type in types])  # type: ignore[arg-type]


async def _claim(queue: PostgresJobQueue, worker: str = "w", limit: int = 10) -> list[Job]:
    return list(
        await queue.claim(worker, limit=limit, lease=LEASE, job_types=TYPES, rescue=True)  # type: ignore[arg-type]
    )


async def _one(database: Database) -> JobRecord:
    (job,) = (
        await PostgresJobControl(database, attempts_max=3).page(EVERY, status=None, limit=9)
    ).jobs
    return job


# Pauses


async def test_a_paused_queue_is_not_claimed_until_it_is_resumed(database: Database) -> None:
    queue, control = PostgresJobQueue(database), PostgresJobControl(database, attempts_max=3)
    await _enqueue(database, *TYPES)
    for _ in range(2):  # repeating it changes nothing
        await control.pause(None)
        assert await _claim(queue) == []
        assert (await queue.stats()).paused == ["all"]
    await _enqueue(database, "reembed")  # jobs are accepted meanwhile
    await control.resume(None)
    assert (await queue.stats()).paused == []
    assert len(await _claim(queue)) == 4


async def test_a_paused_type_leaves_the_others_to_the_workers(database: Database) -> None:
    queue, control = PostgresJobQueue(database), PostgresJobControl(database, attempts_max=3)
    await _enqueue(database, *TYPES)
    await control.pause("reembed")
    await control.pause("weekly_summary")
    assert [job.job_type for job in await _claim(queue)] == ["enrich_and_embed"]
    assert (await queue.stats()).paused == ["reembed", "weekly_summary"]
    await control.resume("reembed")
    assert [job.job_type for job in await _claim(queue)] == ["reembed"]
    await control.pause(None)
    await control.resume(None)  # whatever was paused
    assert [job.job_type for job in await _claim(queue)] == ["weekly_summary"]


async def test_jobs_that_run_end_while_the_queue_is_paused(database: Database) -> None:
    queue, control = PostgresJobQueue(database), PostgresJobControl(database, attempts_max=3)
    await _enqueue(database, "reembed")
    jobs = await _claim(queue)
    await control.pause(None)
    assert await queue.complete("w", jobs) == [True]
    assert (await _one(database)).status == "completed"


async def test_jobs_of_dead_workers_are_taken_back_while_the_queue_is_paused(
    database: Database, connection: asyncpg.Connection
) -> None:
    queue, control = PostgresJobQueue(database), PostgresJobControl(database, attempts_max=3)
    await _enqueue(database, "reembed")
    await _claim(queue)
    await control.pause(None)
    await connection.execute("UPDATE memory_jobs SET locked_until = now() - interval '1 min'")
    assert await queue.rescue("other") == 1
    assert await _claim(queue, "other") == []
    assert (await _one(database)).status == "pending"


async def test_a_type_that_does_not_exist_cannot_be_paused(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("SELECT pause_memory_jobs('enrich')")
    assert await connection.fetchval("SELECT pause_memory_jobs()")
    assert not await connection.fetchval("SELECT pause_memory_jobs()")
    assert await connection.fetchval("SELECT resume_memory_jobs()") == 1


async def test_a_worker_continues_after_a_pause(database: Database) -> None:
    control = PostgresJobControl(database, attempts_max=3)
    await control.pause(None)
    await ingest(database, new_block(user_id="caroline"))
    async with working(database) as worker:
        assert (await PostgresJobQueue(database).stats()).pending == 1
        await control.resume(None)
        await worker.events.wait_for(JobCompleted, count=1)


# History


async def test_every_failed_attempt_is_kept_with_its_worker_and_class(database: Database) -> None:
    queue = PostgresJobQueue(database)
    await _enqueue(database, "reembed")
    started = datetime.now(UTC)
    for number in (1, 2, 3):
        (job,) = await _claim(queue, f"worker-{number}")
        failure = Failure("provider", f"away {number}")
        await queue.fail(f"worker-{number}", job, failure, backoff=timedelta(0))
    record = await _one(database)
    assert record.status == "failed"
    assert [
        (error.attempt, error.worker, error.error_class, error.message)
        for error in record.attempt_errors
    ] == [(n, f"worker-{n}", "provider", f"away {n}") for n in (1, 2, 3)]
    times = [error.at for error in record.attempt_errors]
    assert times == sorted(times)
    assert abs(times[0] - started) < timedelta(minutes=1)


async def test_the_history_keeps_the_last_ten_also_after_a_retry(database: Database) -> None:
    queue = PostgresJobQueue(database)
    control = PostgresJobControl(database, attempts_max=3)
    await _enqueue(database, "reembed", attempts_max=12)
    for _ in range(12):
        (job,) = await _claim(queue)
        await queue.fail("w", job, Failure("internal", "x" * 3_000), backoff=timedelta(0))
    errors = (await _one(database)).attempt_errors
    assert [error.attempt for error in errors] == list(range(3, 13))
    assert {len(error.message) for error in errors} == {500}
    await control.retry(EVERY, limit=1)
    (job,) = await _claim(queue)
    await queue.complete("w", [job])
    done = await _one(database)
    assert (done.status, len(done.attempt_errors)) == ("completed", 10)


async def test_an_attempt_whose_worker_died_is_in_the_history(
    database: Database, connection: asyncpg.Connection
) -> None:
    queue = PostgresJobQueue(database)
    await _enqueue(database, "reembed")
    await _claim(queue)
    await connection.execute("UPDATE memory_jobs SET locked_until = now() - interval '1 min'")
    await queue.rescue("other")
    (error,) = (await _one(database)).attempt_errors
    assert (error.attempt, error.worker) == (1, "w")
    assert "was gone" in error.message


# Attempts and counts


@pytest.mark.parametrize(("enqueued_with", "own", "tries"), [(3, 1, 1), (1, 4, 4), (2, None, 2)])
async def test_a_workers_own_limit_of_attempts_applies_to_its_jobs(
    enqueued_with: int, own: int | None, tries: int, database: Database
) -> None:
    queue = PostgresJobQueue(database, attempts_max=own)
    await _enqueue(database, "reembed", attempts_max=enqueued_with)
    for number in range(1, tries + 1):
        (job,) = await _claim(queue)
        assert (job.attempt, job.is_last_attempt) == (number, number == tries)
        is_final = await queue.fail("w", job, Failure("provider", "away"), backoff=timedelta(0))
        assert is_final == (number == tries)
    assert await _claim(queue) == []


async def test_jobs_beyond_a_workers_slots_count_as_pending(database: Database) -> None:
    queue = PostgresJobQueue(database)
    session = WorkerSession(database, "w", slots=2)
    await session.start(running=lambda: 2, on_signal=None)
    try:
        await _enqueue(database, *["reembed"] * 7)
        await _claim(queue, limit=5)
        stats = await queue.stats()
        assert (stats.processing, stats.pending) == (2, 5)
        await _claim(queue, "of an earlier version", limit=1)
        stats = await queue.stats()
        assert (stats.processing, stats.pending) == (3, 4)
    finally:
        await session.stop()


async def test_a_worker_at_work_never_counts_more_than_it_runs(database: Database) -> None:
    async def handle(_job: Job) -> Outcome:
        stats = await PostgresJobQueue(database).stats()
        seen.append(stats.processing)
        return Done()

    seen: list[int] = []
    await _enqueue(database, *["weekly_summary"] * 300)
    plan = Plan(handlers={"weekly_summary": handle}, concurrent_jobs_max=5)
    async with working(database, plan) as worker:
        await worker.events.wait_for(JobCompleted, count=300)
    assert max(seen) <= 5
