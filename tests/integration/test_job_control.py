"""Looking at jobs and steering them: filters, pages, states, scopes, fairness, batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.support.locks import until_a_session_waits
from tests.support.postgres_majors import every_postgres
from tests.support.running import LEASE, Plan, ingest, job_row, read, working

from luma_memory.domain.errors import Conflict, NotFound, RateLimited
from luma_memory.domain.job import OPEN, Failure, Job, JobFilter, JobType
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.jobs.job_control import Jobs
from luma_memory.postgres.database import Database
from luma_memory.queue.control import PostgresJobControl
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import new_block

pytestmark = every_postgres

AWAY = Failure("provider", "the provider is away", final=True)
MISFIT = Failure("schema", "the answer did not fit", final=True)
EVERY = JobFilter(project_id=None)
MINE = JobFilter(project_id="default")


class CountingSignal:
    """A JobSignal that counts."""

    def __init__(self) -> None:
        self.count = 0

    def notify(self, *_scopes: Scope) -> None:
        self.count += 1


@pytest.fixture
def control(database: Database) -> PostgresJobControl:
    return PostgresJobControl(database, attempts_max=4)


@pytest.fixture
def signal() -> CountingSignal:
    return CountingSignal()


@pytest.fixture
def jobs(database: Database, control: PostgresJobControl, signal: CountingSignal) -> Jobs:
    return Jobs(control, PostgresJobQueue(database), signal=signal)


async def enqueue(
    connection: asyncpg.Connection,
    count: int = 1,
    *,
    user_id: str = "caroline",
    project_id: str = "default",
    job_type: JobType = "enrich_and_embed",
    run_at: datetime | None = None,
) -> list[int]:
    rows = await connection.fetch(
        "SELECT enqueue_memory_jobs($1, $2, $3, $4, $5, $6, $7, $8) AS id",
        [project_id] * count,
        [user_id] * count,
        [job_type] * count,
        [None] * count,
        ['{"n": 1}'] * count,
        [0] * count,
        [run_at] * count,
        [None] * count,
    )
    return [row["id"] for row in rows]


async def claim(database: Database, *, limit: int = 100, worker_id: str = "w1") -> Sequence[Job]:
    return await PostgresJobQueue(database).claim(
        worker_id,
        limit=limit,
        lease=LEASE,
        job_types=["enrich_and_embed", "detect_relations", "weekly_summary", "reembed"],
        rescue=False,
    )


async def fail_all(database: Database, failure: Failure = AWAY) -> list[int]:
    """Claim what there is and let it fail for good."""
    claimed = await claim(database)
    for job in claimed:
        await PostgresJobQueue(database).fail("w1", job, failure, backoff=timedelta(0))
    return sorted(job.id for job in claimed)


async def listed(control: PostgresJobControl, which: JobFilter, **options: Any) -> list[int]:
    page = await control.page(which, **{"status": None, "limit": 100} | options)
    return [job.id for job in page.jobs]


# Looking


async def test_a_dead_letter_has_all_details(
    database: Database, control: PostgresJobControl, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database, attempts_max=2)
    for attempt in (1, 2):
        (job,) = await claim(database, worker_id=f"w{attempt}")
        failure = Failure("provider", f"away, time {attempt}")
        await PostgresJobQueue(database).fail(f"w{attempt}", job, failure, backoff=timedelta(0))
    (record,) = (await control.page(MINE, status="failed", limit=5)).jobs
    row = await job_row(connection, accepted.job_id)
    assert (record.id, record.block_id, record.scope.user_id) == (
        accepted.job_id,
        accepted.id,
        "caroline",
    )
    assert (record.error_class, record.last_error) == ("provider", "away, time 2")
    assert (record.attempts, record.max_attempts, record.locked_by) == (2, 2, "w2")
    assert record.finished_at is not None
    assert record.started_at is not None
    assert record.finished_at >= record.started_at >= record.created_at
    assert [(one.attempt, one.worker, one.message) for one in record.attempt_errors] == [
        (1, "w1", "away, time 1"),
        (2, "w2", "away, time 2"),
    ]
    for column in set(row) - {"project_id", "user_id", "payload", "fair_at", "attempt_errors"}:
        assert getattr(record, column) == row[column], column


async def test_a_deferred_job_has_no_place_yet(
    control: PostgresJobControl, connection: asyncpg.Connection
) -> None:
    (later,) = await enqueue(connection, run_at=datetime.now(UTC) + timedelta(hours=1))
    (record,) = (await control.page(MINE, status="pending", limit=5)).jobs
    assert (record.id, record.fair_at, record.payload) == (later, None, {"n": 1})


async def test_every_filter_narrows(
    database: Database, control: PostgresJobControl, connection: asyncpg.Connection
) -> None:
    failed = await enqueue(connection, 2)
    await fail_all(database)
    other = await enqueue(connection, user_id="melanie", job_type="detect_relations")
    await fail_all(database, MISFIT)
    foreign = await enqueue(connection, project_id="other")
    pending = await enqueue(connection)
    await connection.execute(
        "UPDATE memory_jobs SET created_at = '2020-01-02', finished_at = '2020-01-03'"
        " WHERE id = $1",
        failed[0],
    )
    day = datetime(2020, 1, 2, tzinfo=UTC)
    cases: list[tuple[JobFilter, list[int]]] = [
        (EVERY, [*failed, *other, *foreign, *pending]),
        (MINE, [*failed, *other, *pending]),
        (replace(MINE, user_id="caroline"), [*failed, *pending]),
        (replace(MINE, job_type="detect_relations"), other),
        (replace(MINE, error_class="provider"), failed),
        (replace(MINE, ids=[failed[1], foreign[0]]), failed[1:]),
        (replace(MINE, ids=[]), []),
        (replace(MINE, created_after=day), [*failed, *other, *pending]),
        (replace(MINE, created_before=day), []),
        (replace(MINE, created_before=day + timedelta(seconds=1)), failed[:1]),
        (replace(MINE, finished_after=day + timedelta(days=2)), [failed[1], *other]),
        (replace(MINE, finished_before=day + timedelta(days=2)), failed[:1]),
        (replace(MINE, above_id=failed[0], below_id=other[0]), failed[1:]),
        (replace(MINE, user_id="melanie", error_class="provider"), []),
    ]
    for which, expected in cases:
        assert await listed(control, which) == sorted(expected, reverse=True), which
    assert await listed(control, MINE, status="failed") == sorted([*failed, *other], reverse=True)
    assert await control.count(MINE, statuses=["failed", "pending"]) == 4


async def test_pages_hold_every_job_once_newest_first(
    control: PostgresJobControl, connection: asyncpg.Connection
) -> None:
    ids = await enqueue(connection, 25)
    which, seen = MINE, list[int]()
    for expected in (10, 10, 5):
        page = await control.page(which, status="pending", limit=10)
        assert len(page.jobs) == expected
        seen += [job.id for job in page.jobs]
        await enqueue(connection)  # what arrives meanwhile does not shift the pages
        if page.next_below is not None:
            which = replace(which, below_id=page.next_below)
    assert page.next_below is None
    assert seen == sorted(ids, reverse=True)


async def test_a_foreign_and_a_missing_job_are_indistinguishable(
    jobs: Jobs, control: PostgresJobControl, connection: asyncpg.Connection
) -> None:
    (foreign,) = await enqueue(connection, project_id="other")
    (others,) = await enqueue(connection, user_id="melanie")
    for which in (
        replace(MINE, ids=[foreign]),
        replace(MINE, ids=[2**63 - 2]),
        replace(MINE, ids=[others], user_id="caroline"),
    ):
        for ask in (jobs.one, jobs.retry_one, jobs.cancel_one):
            with pytest.raises(NotFound, match="no such job") as refused:
                await ask(which)
            assert refused.value.code == "job_not_found"
    assert await listed(control, EVERY, status="pending") == [others, foreign]


# Running again


async def test_a_retried_job_runs_from_its_first_attempt_and_its_block_becomes_active(
    database: Database, jobs: Jobs, signal: CountingSignal
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    await fail_all(database)
    assert (await read(database, block, accepted.id)).status == "failed"
    job = await jobs.retry_one(replace(MINE, ids=[accepted.job_id]))
    assert (job.status, job.attempts, job.locked_by, job.finished_at) == ("pending", 0, None, None)
    assert job.error_class == "provider"  # what it failed of stays to be seen until it is done
    assert signal.count == 1
    waiting = await read(database, block, accepted.id)
    assert (waiting.status, waiting.error) == ("pending_enrichment", None)
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted)
    assert (await read(database, block, accepted.id)).status == "active"


async def test_retrying_again_changes_nothing_and_a_completed_job_is_a_conflict(
    database: Database, jobs: Jobs, signal: CountingSignal, connection: asyncpg.Connection
) -> None:
    (job_id,) = await enqueue(connection)
    which = replace(MINE, ids=[job_id])
    assert (await jobs.retry_one(which)).status == "pending"
    claimed = await claim(database)
    assert (await jobs.retry_one(which)).attempts == 1
    await PostgresJobQueue(database).complete("w1", claimed)
    before = await job_row(connection, job_id)
    for ask, code in (
        (jobs.retry_one, "job_not_retryable"),
        (jobs.cancel_one, "job_not_cancellable"),
    ):
        with pytest.raises(Conflict, match="is completed") as refused:
            await ask(which)
        assert refused.value.code == code
    assert await job_row(connection, job_id) == before
    assert signal.count == 0


async def test_a_cancelled_job_runs_again_by_its_id_only(
    jobs: Jobs, connection: asyncpg.Connection
) -> None:
    (job_id,) = await enqueue(connection)
    await jobs.cancel_one(replace(MINE, ids=[job_id]))
    assert await jobs.retry(MINE, limit=10) == []
    assert await connection.fetch("SELECT retry_memory_jobs()") == []
    assert await jobs.retry(replace(MINE, ids=[job_id]), limit=10) == [job_id]


async def test_bulk_retry_takes_the_oldest_within_its_filter_and_limit(
    database: Database,
    jobs: Jobs,
    control: PostgresJobControl,
    signal: CountingSignal,
    connection: asyncpg.Connection,
) -> None:
    mine = await enqueue(connection, 5)
    foreign = await enqueue(connection, project_id="other")
    await fail_all(database)
    await enqueue(connection, 2, user_id="melanie")
    misfits = await fail_all(database, MISFIT)
    assert await jobs.retry(replace(MINE, error_class="timeout"), limit=10) == []
    assert signal.count == 0
    assert await jobs.retry(replace(MINE, error_class="provider"), limit=3) == mine[:3]
    assert await jobs.retry(replace(MINE, error_class="provider"), limit=3) == mine[3:]
    assert signal.count == 2
    assert await listed(control, EVERY, status="failed") == [*misfits[::-1], *foreign]


async def test_many_retried_jobs_of_one_user_do_not_delay_anothers_first(
    database: Database, jobs: Jobs, connection: asyncpg.Connection
) -> None:
    await enqueue(connection, 90, user_id="busy")
    busy = await fail_all(database)
    assert await jobs.retry(MINE, limit=1_000) == busy
    (new,) = await enqueue(connection, user_id="new")
    claimed = [job.id for job in await claim(database, limit=20)]
    assert new in claimed
    assert sorted(set(claimed) - {new}) == busy[:19]


async def test_two_operators_who_retry_at_once_share_the_jobs(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    database = connect_database()
    await enqueue(connection, 50)
    failed = await fail_all(database)
    controls = [PostgresJobControl(connect_database(), attempts_max=3) for _ in range(4)]
    responses = await asyncio.gather(*(each.retry(MINE, limit=100) for each in controls))
    assert sorted(job_id for response in responses for job_id in response) == failed


# Cancelling


async def test_cancelling_takes_pending_and_running_jobs_and_drops_their_results(
    database: Database, jobs: Jobs, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (running,) = await claim(database)
    (pending,) = await enqueue(connection, user_id="melanie")
    for job_id in (accepted.job_id, pending):
        for _ in range(2):  # repeating it is harmless
            job = await jobs.cancel_one(replace(MINE, ids=[job_id]))
            assert job.status == "cancelled"
            assert job.finished_at is not None
    await PostgresJobQueue(database).complete("w1", [running])
    assert (await job_row(connection, accepted.job_id))["status"] == "cancelled"
    stored = await read(database, block, accepted.id)
    assert (stored.status, stored.error) == ("failed", "its job was cancelled")
    assert await claim(database) == []
    assert await jobs.count(MINE, statuses=OPEN) == 0


async def test_bulk_cancel_stays_within_project_and_user(
    jobs: Jobs, control: PostgresJobControl, connection: asyncpg.Connection
) -> None:
    mine = await enqueue(connection, 3)
    kept = [
        *await enqueue(connection, user_id="melanie"),
        *await enqueue(connection, project_id="other"),
    ]
    which = replace(MINE, user_id="caroline")
    assert await jobs.cancel(which, limit=2) == mine[:2]
    assert await jobs.cancel(which, limit=2) == mine[2:]
    assert await listed(control, EVERY, status="pending") == kept[::-1]


# Clearing and enqueuing again


async def test_cleared_blocks_wait_are_enqueued_once_and_become_active(
    database: Database, jobs: Jobs, signal: CountingSignal, connection: asyncpg.Connection
) -> None:
    blocks = [new_block(f"note {n}", project_id=project) for n in range(3) for project in "ab"]
    accepted = await ingest(database, *blocks)
    assert len(await jobs.clear_pending(JobFilter(project_id="a"), limit=100)) == 3
    assert await jobs.count_waiting(project_id=None, user_id=None) == 3
    assert await jobs.count_waiting(project_id="b", user_id=None) == 0
    assert await jobs.enqueue_waiting(project_id="b", user_id=None, limit=10) == []
    assert await jobs.enqueue_waiting(project_id="a", user_id="nobody", limit=10) == []
    assert signal.count == 0
    first = await jobs.enqueue_waiting(project_id="a", user_id="caroline", limit=2)
    assert len(first) == 2
    assert len(await jobs.enqueue_waiting(project_id="a", user_id=None, limit=2)) == 1
    assert await jobs.enqueue_waiting(project_id=None, user_id=None, limit=2) == []
    assert signal.count == 2
    assert (await job_row(connection, first[0]))["max_attempts"] == 4
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted, count=6)
    for block, response in zip(blocks, accepted, strict=True):
        assert (await read(database, block, response.id)).status == "active"


async def test_clearing_leaves_running_and_ended_jobs(
    database: Database, jobs: Jobs, control: PostgresJobControl, connection: asyncpg.Connection
) -> None:
    (running, pending, summary) = [
        *await enqueue(connection),
        *await enqueue(connection, user_id="melanie"),
        *await enqueue(connection, user_id="melanie", job_type="weekly_summary"),
    ]
    await claim(database, limit=1)
    which = replace(MINE, job_type="enrich_and_embed")
    assert await jobs.clear_pending(which, limit=10) == [pending]
    assert await listed(control, EVERY) == [summary, running]
    assert await jobs.clear_pending(MINE, limit=10) == [summary]


async def test_a_waiting_block_is_enqueued_beside_a_job_of_another_kind(
    database: Database, jobs: Jobs, connection: asyncpg.Connection
) -> None:
    (accepted,) = await ingest(database)
    await connection.execute("UPDATE memory_jobs SET job_type = 'reembed'")
    (job_id,) = await jobs.enqueue_waiting(project_id="default", user_id=None, limit=10)
    row = await job_row(connection, job_id)
    assert (row["block_id"], row["job_type"]) == (accepted.id, "enrich_and_embed")
    # The block leads to the job that there is.
    assert await connection.fetchval("SELECT job_id FROM memory_blocks") == job_id


async def test_enqueueing_does_not_bring_back_a_user_who_is_erased_meanwhile(
    database: Database, jobs: Jobs, connection: asyncpg.Connection
) -> None:
    await ingest(database)
    await connection.execute("DELETE FROM memory_jobs")
    async with connection.transaction():
        for table in ("memory_passages", "memory_blocks", "memory_users"):
            await connection.execute(f"DELETE FROM {table}")
        enqueueing = asyncio.create_task(
            jobs.enqueue_waiting(project_id=None, user_id=None, limit=10)
        )
        await until_a_session_waits(connection)
    assert await enqueueing == []
    for table in ("memory_jobs", "memory_users"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_two_operators_who_enqueue_at_once_make_one_job_a_block(
    database: Database, control: PostgresJobControl, connection: asyncpg.Connection
) -> None:
    await ingest(database, *(new_block(f"note {n}") for n in range(20)))
    await connection.execute("DELETE FROM memory_jobs WHERE status = 'pending'")
    async with connection.transaction():
        first = await connection.fetch("SELECT * FROM enqueue_waiting_memory_blocks()")
        second = asyncio.create_task(
            control.enqueue_waiting(project_id=None, user_id=None, limit=100)
        )
        await until_a_session_waits(connection)
    assert len(first) == 20
    assert await second == []


# Together with a worker


async def test_a_deferred_job_is_cancelled_and_stays_so(database: Database, jobs: Jobs) -> None:
    """A provider that says wait, an operator who says stop."""
    deferrals = asyncio.Event()

    async def busy(job: Job) -> Any:
        deferrals.set()
        raise RateLimited("busy", retry_after_seconds=3600)

    (accepted,) = await ingest(database)
    which = replace(MINE, ids=[accepted.job_id])
    async with working(database, Plan(handlers={"enrich_and_embed": busy})):
        await asyncio.wait_for(deferrals.wait(), 60)
    waiting = await jobs.one(which)
    assert (waiting.status, waiting.attempts, waiting.fair_at) == ("pending", 0, None)
    assert (await jobs.cancel_one(which)).status == "cancelled"
    assert await claim(database) == []
