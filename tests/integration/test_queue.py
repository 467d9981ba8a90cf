"""The queue's functions: who gets which job, when, how often, and who may end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import LEASE, ingest, job_row, read

from luma_memory.domain.job import Failure, Job, JobType
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.session import WorkerSession, live_worker_count, new_worker_id
from luma_memory.testing.sample_blocks import new_block

pytestmark = every_postgres

BACKOFF = timedelta(hours=1)
AWAY = Failure("provider", "the provider is away")
REFUSED = Failure("provider_permanent", "bad key", final=True)


async def _claim(
    database: Database,
    worker_id: str = "w1",
    *,
    limit: int = 100,
    lease: timedelta = LEASE,
    job_types: Sequence[JobType] = ("enrich_and_embed",),
    rescue: bool = False,
) -> list[Job]:
    jobs = await PostgresJobQueue(database).claim(
        worker_id, limit=limit, lease=lease, job_types=job_types, rescue=rescue
    )
    return list(jobs)


async def _enqueue(
    connection: asyncpg.Connection,
    count: int = 1,
    *,
    user_id: str = "caroline",
    priority: int = 0,
    run_at: datetime | None = None,
    unique_key: str | None = None,
    job_type: str = "enrich_and_embed",
) -> list[int]:
    """Through the function that anything that speaks SQL may call."""
    rows = await connection.fetch(
        "SELECT enqueue_memory_jobs($1, $2, $3, $4, $5, $6, $7, $8) AS id",
        ["default"] * count,
        [user_id] * count,
        [job_type] * count,
        [None] * count,
        [None] * count,
        [priority] * count,
        [run_at] * count,
        [unique_key] * count,
    )
    return [row["id"] for row in rows]


async def _set(connection: asyncpg.Connection, job_id: int, assignment: str) -> None:
    await connection.execute(f"UPDATE memory_jobs SET {assignment} WHERE id = $1", job_id)


async def _state(connection: asyncpg.Connection, job_id: int) -> tuple[Any, ...]:
    row = await job_row(connection, job_id)
    return row["status"], row["attempts"], row["locked_by"]


# Claiming


async def test_a_claim_takes_exactly_as_many_as_requested(
    database: Database, connection: asyncpg.Connection
) -> None:
    ids = await _enqueue(connection, 10)
    assert [len(await _claim(database, limit=n)) for n in (3, 0, 5, 5)] == [3, 0, 5, 2]
    states = {await _state(connection, job_id) for job_id in ids}
    assert states == {("processing", 1, "w1")}


async def test_a_claimed_job_comes_with_all_its_worker_needs(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block(project_id="p")
    (accepted,) = await ingest(database, block, attempts_max=7)
    (job,) = await _claim(database, lease=timedelta(seconds=90))
    row = await job_row(connection, accepted.job_id)
    assert job == Job(accepted.job_id, block.scope, "enrich_and_embed", accepted.id, 1, 7)
    assert row["locked_until"] - row["started_at"] == timedelta(seconds=90)


async def test_of_two_attempts_completed_at_once_only_the_claimed_one_counts(
    database: Database, connection: asyncpg.Connection
) -> None:
    (job_id,) = await _enqueue(connection, 1)
    (first,) = await _claim(database)
    await connection.execute("UPDATE memory_jobs SET status = 'pending'")
    (second,) = await _claim(database)
    assert (first.attempt, second.attempt) == (1, 2)
    for jobs, status in (([first, first], "processing"), ([first, second], "completed")):
        await PostgresJobQueue(database).complete("w1", jobs)
        assert await _state(connection, job_id) == (status, 2, "w1")
    stats = await PostgresJobQueue(database).stats()
    assert stats.completed == 1


async def test_concurrent_claimers_share_without_overlap_or_excess(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    ids = await _enqueue(connection, 400)
    claimed: dict[str, list[int]] = {}

    async def claim_all(worker_id: str, database: Database) -> None:
        mine = claimed.setdefault(worker_id, [])
        while jobs := await _claim(database, worker_id, limit=7):
            assert len(jobs) <= 7
            mine.extend(job.id for job in jobs)

    databases = [connect_database() for _ in range(8)]
    await asyncio.gather(*(claim_all(f"w{n}", database) for n, database in enumerate(databases)))
    # A claimer that found all locked has stopped early; nothing is claimed twice.
    rest = [job.id for job in await _claim(databases[0], "w0", limit=1_000)]
    assert sorted([*(job_id for mine in claimed.values() for job_id in mine), *rest]) == sorted(ids)
    rows = await connection.fetch("SELECT locked_by, attempts FROM memory_jobs")
    assert {row["attempts"] for row in rows} == {1}


async def test_priority_then_place_then_id(
    database: Database, connection: asyncpg.Connection
) -> None:
    late = await _enqueue(connection, 3, user_id="busy")
    other = await _enqueue(connection, 1, user_id="other")
    (urgent,) = await _enqueue(connection, 1, user_id="busy", priority=5)
    (idle,) = await _enqueue(connection, 1, user_id="idle", priority=-1)
    await connection.execute(
        "UPDATE memory_jobs SET fair_at = '2020-01-01' WHERE id = ANY ($1)", [late[2], other[0]]
    )
    order = []
    for n in range(6):  # a worker each: what is below 0 is for one that runs nothing else
        (job,) = await _claim(database, f"w{n}", limit=1)
        order.append(job.id)
    assert order == [urgent, *sorted([late[2], other[0]]), late[0], late[1], idle]


async def test_one_users_many_jobs_do_not_delay_anothers_first(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _enqueue(connection, 1_000, user_id="busy")
    (first,) = await _enqueue(connection, user_id="new")
    assert first in {job.id for job in await _claim(database, limit=20)}


async def test_a_slowly_draining_backlog_does_not_delay_a_new_user(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _enqueue(connection, 1_000, user_id="busy")
    # An hour later the provider has done next to nothing: all of these places are long over.
    for table in ("memory_jobs", "memory_users"):
        await connection.execute(f"UPDATE {table} SET fair_at = fair_at - interval '1 hour'")
    (first,) = await _enqueue(connection, user_id="new")
    (accepted,) = await ingest(database, new_block(user_id="newer"))
    claimed = {job.id for job in await _claim(database, limit=20)}
    assert {first, accepted.job_id} <= claimed


async def test_one_users_many_jobs_that_come_due_at_once_do_not_delay_anothers(
    database: Database, connection: asyncpg.Connection
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    await _enqueue(connection, 500, user_id="busy", run_at=soon)
    (other,) = await _enqueue(connection, user_id="other", run_at=soon)
    await connection.execute("UPDATE memory_jobs SET run_at = now() - interval '1 s'")
    (new,) = await _enqueue(connection, user_id="new")
    assert {other, new} <= {job.id for job in await _claim(database, limit=20)}


async def test_only_the_requested_job_types_are_claimed(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _enqueue(connection, 2, job_type="detect_relations")
    (mine,) = await _enqueue(connection)
    assert [job.id for job in await _claim(database)] == [mine]
    assert len(await _claim(database, job_types=["detect_relations", "reembed"])) == 2


async def test_a_deferred_job_appears_when_it_is_due(
    database: Database, connection: asyncpg.Connection
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    deferred = await _enqueue(connection, 2, run_at=later)
    (now,) = await _enqueue(connection)
    assert [job.id for job in await _claim(database)] == [now]
    stats = await PostgresJobQueue(database).stats()
    assert (stats.pending, stats.deferred) == (2, 2)
    await _set(connection, deferred[1], "run_at = clock_timestamp()")
    assert [job.id for job in await _claim(database)] == [deferred[1]]
    assert await _claim(database) == []


async def test_a_unique_key_makes_one_job_per_scope(connection: asyncpg.Connection) -> None:
    assert len(await _enqueue(connection, 2, unique_key="week 19")) == 1
    assert await _enqueue(connection, unique_key="week 19") == []
    assert len(await _enqueue(connection, user_id="melanie", unique_key="week 19")) == 1


# Ending


async def test_completing_is_for_the_own_attempt_only(
    database: Database, connection: asyncpg.Connection
) -> None:
    (job_id,) = await _enqueue(connection)
    (job,) = await _claim(database)
    queue = PostgresJobQueue(database)
    for worker_id, claimed in (("w2", job), ("w1", job._replace(attempt=2))):
        await queue.complete(worker_id, [claimed])
        assert await _state(connection, job_id) == ("processing", 1, "w1")
    await queue.complete("w1", [job])
    row = await job_row(connection, job_id)
    assert (row["status"], row["locked_until"]) == ("completed", None)
    assert row["finished_at"] >= row["started_at"] >= row["created_at"]
    await queue.complete("w1", [job])
    await queue.release("w1", [job])
    assert not await queue.fail("w1", job, REFUSED, backoff=BACKOFF)
    assert await job_row(connection, job_id) == row


async def test_a_late_worker_neither_fails_nor_releases_what_is_not_its_own(
    database: Database, connection: asyncpg.Connection
) -> None:
    (job_id,) = await _enqueue(connection)
    (late,) = await _claim(database, "w1", lease=timedelta(0))
    (current,) = await _claim(database, "w2", rescue=True)
    assert current.attempt == 2
    row = await job_row(connection, job_id)
    queue = PostgresJobQueue(database)
    for worker_id, job in (("w1", late), ("w2", late), ("w1", current)):
        await queue.complete(worker_id, [job])
        await queue.release(worker_id, [job])
        assert not await queue.fail(worker_id, job, REFUSED, backoff=BACKOFF)
    assert await job_row(connection, job_id) == row


async def test_a_failed_attempt_comes_back_after_its_backoff(
    database: Database, connection: asyncpg.Connection
) -> None:
    (job_id,) = await _enqueue(connection)
    (job,) = await _claim(database)
    before = datetime.now(UTC)
    assert not await PostgresJobQueue(database).fail("w1", job, AWAY, backoff=BACKOFF)
    row = await job_row(connection, job_id)
    assert (row["status"], row["attempts"]) == ("pending", 1)
    assert (row["error_class"], row["last_error"]) == ("provider", "the provider is away")
    assert row["run_at"] >= before + BACKOFF
    assert await _claim(database) == []
    await _set(connection, job_id, "run_at = clock_timestamp()")
    assert [again.attempt for again in await _claim(database)] == [2]


@pytest.mark.parametrize(("failure", "attempts"), [(AWAY, 3), (REFUSED, 1)])
async def test_the_last_failure_fails_the_block_with_its_reason(
    failure: Failure, attempts: int, database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    version = await connection.fetchval("SELECT version FROM memory_users")
    queue = PostgresJobQueue(database)
    for attempt in range(1, attempts + 1):
        assert (await read(database, block, accepted.id)).status == "pending_enrichment"
        (job,) = await _claim(database)
        final = await queue.fail("w1", job, failure, backoff=timedelta(0))
        assert final == (attempt == attempts)
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"], row["error_class"]) == (
        "failed",
        attempts,
        failure.error_class,
    )
    assert row["finished_at"] is not None
    stored = await read(database, block, accepted.id)
    assert (stored.status, stored.error) == ("failed", failure.message)
    assert await connection.fetchval("SELECT version FROM memory_users") > version
    assert await _claim(database, rescue=True) == []


async def test_a_block_that_is_active_already_is_not_failed(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    await connection.execute("UPDATE memory_blocks SET status = 'active'")
    (job,) = await _claim(database)
    assert await PostgresJobQueue(database).fail("w1", job, REFUSED, backoff=BACKOFF)
    assert (await read(database, block, accepted.id)).status == "active"


async def test_a_job_whose_block_is_gone_can_fail_too(
    database: Database, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    await connection.execute("DELETE FROM memory_blocks")
    (job,) = await _claim(database)
    assert await PostgresJobQueue(database).fail("w1", job, REFUSED, backoff=BACKOFF)
    assert (await job_row(connection, accepted.job_id))["status"] == "failed"


async def test_releasing_spends_no_attempt_and_keeps_the_place(
    database: Database, connection: asyncpg.Connection
) -> None:
    ids = await _enqueue(connection, 3)
    jobs = await _claim(database, limit=2)
    queue = PostgresJobQueue(database)
    await queue.release("w1", [])
    await queue.release("w1", jobs)
    assert {await _state(connection, job_id) for job_id in ids} == {("pending", 0, None)}
    assert [(await _claim(database, limit=1))[0].id for _ in ids] == ids


async def test_releasing_until_a_time_defers(
    database: Database, connection: asyncpg.Connection
) -> None:
    (job_id,) = await _enqueue(connection)
    (job,) = await _claim(database)
    until = datetime.now(UTC) + timedelta(hours=1)
    await PostgresJobQueue(database).release("w1", [job], run_at=until)
    row = await job_row(connection, job_id)
    assert (row["status"], row["attempts"], row["run_at"]) == ("pending", 0, until)
    assert await _claim(database) == []
    await _set(connection, job_id, "run_at = clock_timestamp()")
    assert [again.attempt for again in await _claim(database)] == [1]


# Rescue


async def test_a_job_comes_back_when_its_lease_has_run_out(
    database: Database, connection: asyncpg.Connection
) -> None:
    (job_id, claimed) = await _enqueue(connection, 2)
    await _claim(database, limit=1, lease=timedelta(0))
    await _claim(database, limit=1)
    assert await _claim(database, "w2", rescue=False) == []
    (rescued,) = await _claim(database, "w2", rescue=True)
    assert (rescued.id, rescued.attempt) == (job_id, 2)
    assert await _state(connection, claimed) == ("processing", 1, "w1")


async def test_a_job_that_never_comes_back_runs_out_of_attempts(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block, attempts_max=2)
    for attempt in (1, 2):
        (job,) = await _claim(database, f"w{attempt}", lease=timedelta(0), rescue=True)
        assert job.attempt == attempt
    assert await _claim(database, "w3", rescue=True) == []
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"], row["error_class"]) == ("failed", 2, "timeout")
    stored = await read(database, block, accepted.id)
    assert stored.status == "failed"
    assert stored.error is not None
    assert "w2 was gone" in stored.error


@asynccontextmanager
async def _present(database: Database, worker_id: str) -> AsyncIterator[WorkerSession]:
    session = WorkerSession(database, worker_id)
    await session.start(running=lambda: 1, on_signal=None)
    try:
        yield session
    finally:
        await session.stop()


async def _server_is_settled(connection: asyncpg.Connection) -> None:
    """A server that has just started gives its workers time to come back."""
    await connection.execute(
        "SELECT pg_sleep_until(pg_postmaster_start_time() + interval '10.1 s')"
    )


async def _session_backend(connection: asyncpg.Connection, worker_id: str) -> int | None:
    pid: int | None = await connection.fetchval(
        "SELECT l.pid FROM pg_locks AS l JOIN memory_workers AS w"
        " ON (l.classid::bigint << 32) + l.objid::bigint = w.lock_key"
        " WHERE l.locktype = 'advisory' AND w.id = $1",
        worker_id,
    )
    return pid


async def test_a_job_comes_back_in_less_than_a_second_when_its_worker_is_gone(
    dsn: str, database: Database, connection: asyncpg.Connection
) -> None:
    await _server_is_settled(connection)
    (job_id,) = await _enqueue(connection)
    holder: asyncpg.Connection = await asyncpg.connect(dsn)
    await holder.execute("SELECT pg_advisory_lock(77)")
    await connection.execute("INSERT INTO memory_workers (id, lock_key) VALUES ('w1', 77)")
    await _claim(database, "w1")
    assert await _claim(database, "w2", rescue=True) == []
    # As when the process is killed: the connection breaks without a goodbye.
    holder.terminate()
    fallen = datetime.now(UTC)
    while not (jobs := await _claim(database, "w2", rescue=True)):  # noqa: ASYNC110 - polls SQL
        await asyncio.sleep(0.05)
    assert [(job.id, job.attempt) for job in jobs] == [(job_id, 2)]
    row = await job_row(connection, job_id)
    assert row["error_class"] == "poison"
    assert row["started_at"] - fallen < timedelta(seconds=1)


async def test_a_worker_that_lost_only_its_connection_keeps_its_jobs(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    database = connect_database()
    await _server_is_settled(connection)
    (job_id,) = await _enqueue(connection)
    async with _present(connect_database(), "w1"):
        await _claim(database, "w1")
        backend = await _session_backend(connection, "w1")
        assert await connection.fetchval("SELECT pg_terminate_backend($1, 60000)", backend)
        async with asyncio.timeout(60):
            while await _session_backend(connection, "w1") is None:
                assert await _claim(database, "w2", rescue=True) == []
        assert await _claim(database, "w2", rescue=True) == []
        assert await _state(connection, job_id) == ("processing", 1, "w1")


async def test_a_lease_that_ran_out_while_the_database_stood_still_does_not_count_at_once(
    database: Database, connection: asyncpg.Connection
) -> None:
    (job_id,) = await _enqueue(connection)
    async with _present(database, "w2"):
        await _claim(database, "w1", lease=timedelta(0))
        await connection.execute(
            "UPDATE memory_workers SET last_seen = last_seen - interval '20 s' WHERE id = 'w2'"
        )
        assert await _claim(database, "w2", rescue=True) == []
        await connection.execute(
            "SELECT heartbeat_memory_worker('w2', '', 0, '', 0, NULL)"
        )  # heard of again, but only now
        assert await _claim(database, "w2", rescue=True) == []
        assert await _state(connection, job_id) == ("processing", 1, "w1")
        await connection.execute(
            "UPDATE memory_workers SET steady_since = now() - interval '11 s' WHERE id = 'w2'"
        )
        (job,) = await _claim(database, "w2", rescue=True)
        assert (job.id, job.attempt) == (job_id, 2)


async def test_rescue_tries_the_locks_of_workers_with_jobs_only(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _enqueue(connection)
    async with _present(database, "w1"):
        await _claim(database, "w1")
        await connection.execute(
            "INSERT INTO memory_workers (id, lock_key) SELECT 'old ' || n, n FROM"
            " generate_series(1, 3000) AS n; ANALYZE memory_workers; ANALYZE memory_jobs"
        )
        async with connection.transaction():
            # With the plan that many jobs would get: one pass over all workers.
            await connection.execute("SET LOCAL enable_nestloop = off")
            assert await connection.fetchval("SELECT rescue_memory_jobs('w2')") == 0
            claimed = await connection.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                " AND pid = pg_backend_pid()"
            )
    assert claimed == 0


async def test_a_worker_without_a_lock_is_judged_by_its_lease(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _enqueue(connection)
    await connection.execute("INSERT INTO memory_workers (id, lock_key) VALUES ('w1', NULL)")
    await _claim(database, "w1")
    assert await _claim(database, "w2", rescue=True) == []


async def _dies(connection: asyncpg.Connection, database: Database, worker_id: str) -> None:
    """The worker's lock is free, and was free at an earlier check."""
    await connection.execute(
        "INSERT INTO memory_workers (id, lock_key, stopped_at)"
        " VALUES ($1, hashtext($1), now() - interval '1 s')",
        worker_id,
    )
    await PostgresJobQueue(database).rescue("rescuer")


async def test_the_last_attempt_after_a_death_runs_alone(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Else a job that kills its worker would also use up the attempts of the jobs beside it."""
    first, second, *others = await _enqueue(connection, 6)
    for worker_id in ("w1", "w2"):
        assert {job.id for job in await _claim(database, worker_id, limit=2)} == {first, second}
        await _dies(connection, database, worker_id)
    # A busy worker reserves such a job: it claims nothing more until it is idle.
    (later,) = await _enqueue(connection, job_type="reembed")
    assert [job.id for job in await _claim(database, "w3", job_types=["reembed"])] == [later]
    assert await _claim(database, "w3") == []
    row = await job_row(connection, first)
    assert (row["status"], row["attempts"], row["locked_by"]) == ("pending", 2, "w3")
    # One is enough: other busy workers continue.
    (again,) = await _enqueue(connection, job_type="reembed")
    assert [job.id for job in await _claim(database, "w4", job_types=["reembed"])] == [again]
    assert [job.id for job in await _claim(database, "w4", limit=1)] == others[:1]
    # An idle worker takes it at once and claims nothing beside it; w3 continues with the others.
    assert [job.id for job in await _claim(database, "w5")] == [first]
    assert await _claim(database, "w5") == []
    assert [job.id for job in await _claim(database, "w3", limit=1)] == others[1:2]
    await _dies(connection, database, "w5")
    assert (await job_row(connection, first))["status"] == "failed"
    # The second one is next, alone too.
    queue = PostgresJobQueue(database)
    await queue.complete("w3", await queue.claimed_jobs("w3"))
    assert [job.id for job in await _claim(database, "w3")] == [second]
    assert await _claim(database, "w3") == []
    await queue.complete("w3", await queue.claimed_jobs("w3"))
    assert [job.id for job in await _claim(database, "w3")] == others[2:]


async def test_a_promise_of_a_worker_that_died_is_void_after_its_lease(
    database: Database, connection: asyncpg.Connection
) -> None:
    (deadly, *others) = await _enqueue(connection, 3)
    for worker_id in ("w1", "w2"):
        assert [job.id for job in await _claim(database, worker_id, limit=1)] == [deadly]
        await _dies(connection, database, worker_id)
    await _enqueue(connection, 2, job_type="reembed")
    for worker_id in ("w3", "w4"):
        await _claim(database, worker_id, limit=1, job_types=["reembed"])
    assert await _claim(database, "w3") == []
    assert [job.id for job in await _claim(database, "w4", limit=1)] == others[:1]
    await connection.execute("UPDATE memory_jobs SET locked_until = now() WHERE id = $1", deadly)
    assert await _claim(database, "w4") == []
    assert (await job_row(connection, deadly))["locked_by"] == "w4"


# Calibration


async def test_low_priority_jobs_wait_until_a_worker_has_nothing_else(
    database: Database, connection: asyncpg.Connection
) -> None:
    queue = PostgresJobQueue(database)
    low_priority = await _enqueue(connection, 3, priority=-10)
    (first,) = await _enqueue(connection)
    # Not beside the last jobs of a backlog, though there are slots for it.
    assert [job.id for job in await _claim(database, limit=5)] == [first]
    assert await _claim(database, limit=5) == []
    await queue.complete("w1", await queue.claimed_jobs("w1"))
    # An idle worker takes as much as it can.
    assert [job.id for job in await _claim(database, limit=2)] == low_priority[:2]
    (second,) = await _enqueue(connection)
    assert [job.id for job in await _claim(database, limit=5)] == [second]
    assert await _claim(database, limit=5) == []


async def test_low_priority_jobs_do_not_starve(
    database: Database, connection: asyncpg.Connection
) -> None:
    queue = PostgresJobQueue(database)
    first, second, _ = await _enqueue(connection, 3, priority=-10)
    (long,) = await _enqueue(connection)
    assert [job.id for job in await _claim(database, limit=5)] == [long]
    await connection.execute(
        "UPDATE memory_jobs SET fair_at = fair_at - interval '11 s' WHERE priority < 0"
    )
    # Beside other work one at a time, and never before it.
    assert [job.id for job in await _claim(database, limit=5)] == [first]
    assert await _claim(database, limit=5) == []
    (more,) = await _enqueue(connection)
    await queue.complete("w1", [job for job in await queue.claimed_jobs("w1") if job.id == first])
    assert [job.id for job in await _claim(database, limit=5)] == [more]
    assert [job.id for job in await _claim(database, limit=5)] == [second]


# Numbers


async def test_stats_count_every_state_and_outlive_the_rows(
    database: Database, connection: asyncpg.Connection
) -> None:
    queue = PostgresJobQueue(database)
    empty = await queue.stats()
    assert (empty.pending, empty.completed, empty.oldest_pending_seconds) == (0, 0, None)
    async with _present(database, "w1"):
        await _enqueue(connection, 10)
        await _enqueue(connection, 2, run_at=datetime.now(UTC) + timedelta(hours=1))
        jobs = await _claim(database, limit=6)
        await queue.complete("w1", jobs[:3])
        await queue.fail("w1", jobs[3], REFUSED, backoff=BACKOFF)
        await queue.fail("w1", jobs[4], AWAY, backoff=BACKOFF)
        stats = await queue.stats()
        assert (stats.pending, stats.processing, stats.completed, stats.failed, stats.deferred) == (
            7,
            1,
            3,
            1,
            3,
        )
        assert stats.oldest_pending_seconds is not None
        assert 0 <= stats.oldest_pending_seconds < 300
        await connection.execute("DELETE FROM memory_jobs WHERE status = 'completed'")
        assert (await queue.stats()).completed == 3


async def test_the_operators_statements_work_as_written(
    database: Database, connection: asyncpg.Connection
) -> None:
    accepted = await ingest(database, new_block(), new_block())
    (job,) = await _claim(database, limit=1)
    await PostgresJobQueue(database).fail("w1", job, REFUSED, backoff=BACKOFF)
    (stats,) = await connection.fetch("SELECT * FROM get_memory_job_stats()")
    assert stats["failed"] == 1
    assert (
        len(
            await connection.fetch(
                "SELECT * FROM memory_jobs WHERE status = 'failed'"
                " ORDER BY created_at DESC LIMIT 50"
            )
        )
        == 1
    )
    pending = await connection.fetch(
        "SELECT * FROM memory_jobs WHERE status = 'pending'"
        " ORDER BY priority DESC, created_at ASC LIMIT 20"
    )
    assert [row["id"] for row in pending] == [a.job_id for a in accepted if a.job_id != job.id]
    await connection.execute("DELETE FROM memory_jobs WHERE status = 'pending'")
    blocks = await connection.fetch("SELECT status FROM memory_blocks ORDER BY status")
    assert [row["status"] for row in blocks] == ["failed", "pending_enrichment"]


# Presence


async def test_workers_are_counted_while_they_live(database: Database) -> None:
    async with _present(database, new_worker_id()), _present(database, new_worker_id("api")):
        assert await live_worker_count(database) == 1
    assert await live_worker_count(database) == 0
    assert len({new_worker_id() for _ in range(1_000)}) == 1_000


async def test_a_session_starts_and_stops_harmlessly_in_any_order(database: Database) -> None:
    session = WorkerSession(database, new_worker_id())
    await session.stop()
    for _ in range(2):
        await session.start(running=lambda: 0, on_signal=None)
        await session.start(running=lambda: 0, on_signal=None)
        assert await live_worker_count(database) == 1
        await session.stop()
        await session.stop()
        assert await live_worker_count(database) == 0
