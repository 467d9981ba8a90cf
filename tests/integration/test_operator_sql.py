"""The statements that operators type, exactly as the documentation gives them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import LEASE, Plan, ingest, read, working

from luma_memory.domain.enrichment import EnrichmentRequest
from luma_memory.domain.errors import ProviderUnavailable
from luma_memory.domain.job import Failure
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.telemetry.events import JobCompleted, JobFailed
from luma_memory.testing.models import QuotingEnricher
from luma_memory.testing.sample_blocks import new_block

pytestmark = every_postgres

STATS = "SELECT * FROM get_memory_job_stats()"
FAILED = "SELECT * FROM memory_jobs WHERE status = 'failed' ORDER BY created_at DESC LIMIT 50"
PENDING = (
    "SELECT * FROM memory_jobs WHERE status = 'pending'"
    " ORDER BY priority DESC, created_at ASC LIMIT 20"
)
CLEAR = "DELETE FROM memory_jobs WHERE status = 'pending'"
# The one command that enqueues again what CLEAR left behind, and how jobs are pruned and retried.
ENQUEUE = "SELECT * FROM enqueue_waiting_memory_blocks()"
RETRY = "SELECT * FROM retry_memory_jobs(p_error_class => 'provider')"
CANCEL = "SELECT * FROM cancel_memory_jobs(p_user_id => 'caroline')"
PRUNE = "SELECT prune_memory_jobs(now(), now())"


async def numbers(connection: asyncpg.Connection) -> tuple[int, int, int, int]:
    (row,) = await connection.fetch(STATS)
    return row["pending"], row["processing"], row["completed"], row["failed"]


async def statuses(database: Database, responses: Sequence[object]) -> list[str]:
    rows = await database.fetch("SELECT status FROM memory_blocks ORDER BY id")
    assert len(rows) == len(responses)
    return [row["status"] for row in rows]


async def claim(database: Database, limit: int) -> list[int]:
    jobs = await PostgresJobQueue(database).claim(
        "w1", limit=limit, lease=LEASE, job_types=["enrich_and_embed"], rescue=False
    )
    return [job.id for job in jobs]


async def test_the_stats_have_the_columns_that_operators_know(
    database: Database, connection: asyncpg.Connection
) -> None:
    (row,) = await connection.fetch(STATS)
    assert list(row.keys())[:4] == ["pending", "processing", "completed", "failed"]
    assert await numbers(connection) == (0, 0, 0, 0)
    await ingest(database, *(new_block(f"note {n}") for n in range(3)))
    await claim(database, 1)
    assert await numbers(connection) == (2, 1, 0, 0)


async def test_pending_jobs_are_listed_by_priority_then_age(
    database: Database, connection: asyncpg.Connection
) -> None:
    accepted = await ingest(database, *(new_block(f"note {n}") for n in range(25)))
    ids = [response.job_id for response in accepted]
    for n, job_id in enumerate(ids):
        await connection.execute(
            "UPDATE memory_jobs SET created_at = now() + $2::integer * interval '1 s',"
            " priority = CASE WHEN $1 = $3 THEN 5 ELSE 0 END WHERE id = $1",
            job_id,
            n,
            ids[22],
        )
    listed = [row["id"] for row in await connection.fetch(PENDING)]
    assert listed == [ids[22], *ids[:19]]


async def test_a_dead_letter_has_class_message_attempts_times_and_workers(
    database: Database, connection: asyncpg.Connection
) -> None:
    async def away(_request: EnrichmentRequest) -> None:
        raise ProviderUnavailable("the provider answered 502")

    (accepted,) = await ingest(database)
    async with working(database, Plan(enricher=QuotingEnricher(before=away))) as worker:
        await worker.events.wait_for(JobFailed, count=3)
    (row,) = await connection.fetch(FAILED)
    assert row["id"] == accepted.job_id
    assert (row["error_class"], row["last_error"]) == ("provider", "the provider answered 502")
    assert (row["attempts"], row["max_attempts"]) == (3, 3)
    assert row["locked_by"] == worker.worker_id
    assert row["created_at"] <= row["started_at"] <= row["finished_at"]
    assert row["locked_until"] is None
    assert await numbers(connection) == (0, 0, 0, 1)


async def test_the_newest_fifty_failed_jobs_are_listed(
    database: Database, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "INSERT INTO memory_jobs (user_id, job_type, status, created_at) SELECT 'u', 'reembed',"
        " CASE WHEN n % 2 = 0 THEN 'failed' ELSE 'completed' END,"
        " now() - n * interval '1 minute' FROM generate_series(1, 120) AS n"
    )
    rows = await connection.fetch(FAILED)
    assert len(rows) == 50
    assert {row["status"] for row in rows} == {"failed"}
    created = [row["created_at"] for row in rows]
    assert created == sorted(created, reverse=True)


async def test_after_the_delete_blocks_stay_marked_and_one_command_enqueues_them_again(
    database: Database, connection: asyncpg.Connection
) -> None:
    blocks = [new_block(f"note {n}", user_id=f"user {n % 2}") for n in range(7)]
    accepted = await ingest(database, *blocks)
    assert await connection.execute(CLEAR) == "DELETE 7"
    assert await numbers(connection) == (0, 0, 0, 0)
    assert await statuses(database, accepted) == ["pending_enrichment"] * 7

    assert len(await connection.fetch(ENQUEUE)) == 7
    assert await connection.fetch(ENQUEUE) == []
    assert await numbers(connection) == (7, 0, 0, 0)
    async with working(database) as worker:
        await worker.events.wait_for(JobCompleted, count=7)
    assert await statuses(database, accepted) == ["active"] * 7
    for block, response in zip(blocks, accepted, strict=True):
        assert (await read(database, block, response.id)).title is not None
    assert await numbers(connection) == (0, 0, 7, 0)
    assert await connection.fetch(ENQUEUE) == []


async def test_retry_and_cancel_by_filter(
    database: Database, connection: asyncpg.Connection
) -> None:
    accepted = await ingest(database, *(new_block(f"note {n}") for n in range(3)))
    jobs = await PostgresJobQueue(database).claim(
        "w1", limit=2, lease=LEASE, job_types=["enrich_and_embed"], rescue=False
    )
    for job, failure in zip(
        jobs,
        [Failure("provider", "away", final=True), Failure("schema", "misfit", final=True)],
        strict=True,
    ):
        await PostgresJobQueue(database).fail("w1", job, failure, backoff=timedelta(0))
    assert await numbers(connection) == (1, 0, 0, 2)
    assert [row[0] for row in await connection.fetch(RETRY)] == [jobs[0].id]
    assert await numbers(connection) == (2, 0, 0, 1)
    assert await statuses(database, accepted) == [
        "pending_enrichment",
        "failed",
        "pending_enrichment",
    ]
    cancelled = sorted(row[0] for row in await connection.fetch(CANCEL))
    assert cancelled == sorted({response.job_id for response in accepted} - {jobs[1].id})
    assert await numbers(connection) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "matches"),
    [
        ("p_project_id => 'default'", True),
        ("p_project_id => 'other'", False),
        ("p_user_id => 'caroline', p_job_type => 'enrich_and_embed'", True),
        ("p_job_type => 'reembed'", False),
        ("p_error_class => 'timeout'", False),
        ("p_failed_after => now() - interval '1 hour', p_failed_before => now()", True),
        ("p_failed_after => now()", False),
        ("p_failed_before => now() - interval '1 hour'", False),
        ("p_limit => 0", False),
    ],
)
async def test_retry_narrows_by_each_of_its_parameters(
    arguments: str, matches: bool, database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database)
    (job,) = await PostgresJobQueue(database).claim(
        "w1", limit=1, lease=LEASE, job_types=["enrich_and_embed"], rescue=False
    )
    away = Failure("provider", "away", final=True)
    await PostgresJobQueue(database).fail("w1", job, away, backoff=timedelta(0))
    rows = await connection.fetch(f"SELECT * FROM retry_memory_jobs({arguments})")
    assert [row[0] for row in rows] == ([job.id] if matches else [])


async def test_totals_stay_right_after_pruning(
    database: Database, connection: asyncpg.Connection
) -> None:
    async with working(database) as worker:
        await ingest(database, *(new_block(f"note {n}") for n in range(6)))
        await worker.events.wait_for(JobCompleted, count=6)
        # The worker lives: its row stays and the jobs go.
        assert await connection.fetchval(PRUNE) == 6
        assert await numbers(connection) == (0, 0, 6, 0)
    # It is gone for a day: its row goes too.
    await connection.execute("UPDATE memory_workers SET last_seen = now() - interval '1 day'")
    for _ in range(2):
        assert await connection.fetchval(PRUNE) == 0
        assert await numbers(connection) == (0, 0, 6, 0)
    assert (
        await connection.fetchval(
            "SELECT count(*) FROM memory_workers WHERE id = $1", worker.worker_id
        )
        == 0
    )
    async with working(database) as worker:
        await ingest(database)
        await worker.events.wait_for(JobCompleted)
    assert await numbers(connection) == (0, 0, 7, 0)
