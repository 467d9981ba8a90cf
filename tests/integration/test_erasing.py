"""Erasing a user while others hold, write and end what is theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import date, timedelta

import asyncpg
import pytest
from tests.support.locks import until_a_session_waits
from tests.support.postgres_majors import every_postgres
from tests.support.running import ingest

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.erasure import Receipt
from luma_memory.domain.job import Job
from luma_memory.domain.scope import Scope
from luma_memory.domain.usage import Spent, UsageEntry, UsageKey
from luma_memory.pipeline.ingest.erasing import Erasing
from luma_memory.ports.blocks import EnrichedBlock
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.erasures import PostgresEraserStore
from luma_memory.store.usage import PostgresUsageStore
from luma_memory.testing.sample_blocks import new_block

pytestmark = every_postgres
SCOPE = Scope("default", "caroline")


class Kept:
    """A cache that counts the calls that drop a user's entries."""

    def __init__(self) -> None:
        self.forgotten: list[Scope] = []

    async def forget(self, scope: Scope) -> int:
        self.forgotten.append(scope)
        return 3


@pytest.fixture
def cache() -> Kept:
    return Kept()


@pytest.fixture
def erasing(database: Database, cache: Kept) -> Erasing:
    store = PostgresEraserStore(database)
    return Erasing(store, secret=b"s" * 32, caches=(cache,), clock=SystemClock())


@pytest.fixture
async def second(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection: asyncpg.Connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def names_of(connection: asyncpg.Connection) -> dict[str, int]:
    rows = await connection.fetch("SELECT * FROM count_memory_rows('default', 'caroline')")
    return {row["name"]: row["count"] for row in rows if row["count"]}


async def claimed(database: Database) -> Job:
    (job,) = await PostgresJobQueue(database).claim(
        "w", limit=1, lease=timedelta(minutes=1), job_types=["enrich_and_embed"], rescue=False
    )
    return job


@pytest.mark.timeout(60)
async def test_jobs_with_ids_far_apart_are_erased_soon(
    database: Database, connection: asyncpg.Connection, erasing: Erasing
) -> None:
    """As where the user was moved between partitions, each with ids of its own."""
    await ingest(database, new_block("A boat."))
    (job,) = await connection.fetch("SELECT id FROM memory_jobs")
    others = [(n << 43) + (node << 36) + 1 for n in (0, 3) for node in (0, 1, 2) if n + node]
    columns = "project_id, user_id, job_type, payload, run_at, fair_at, status"
    for number in others:
        await connection.execute(
            f"INSERT INTO memory_jobs (id, {columns})"
            f" SELECT $1, {columns} FROM memory_jobs WHERE id = $2",
            *(number, job["id"]),
        )
    receipt = await erasing.erase(SCOPE, key=None)
    assert receipt.erasure.counts["jobs"] == 1 + len(others)
    assert await names_of(connection) == {}


async def test_a_running_jobs_result_is_dropped(
    database: Database, connection: asyncpg.Connection, erasing: Erasing
) -> None:
    await ingest(database)
    job = await claimed(database)
    receipt = await erasing.erase(SCOPE, key=None)
    assert receipt.erasure.counts["jobs"] == 1
    result = EnrichedBlock(job, 1, None, None, [], None)
    assert await PostgresBlockStore(database, attempts_max=3).write_back("w", [result]) == [False]
    await PostgresJobQueue(database).complete("w", [job])
    await PostgresJobQueue(database).release("w", [job])
    assert await names_of(connection) == {}


async def test_a_job_that_is_being_ended_is_waited_for(
    database: Database, connection: asyncpg.Connection, erasing: Erasing, second: asyncpg.Connection
) -> None:
    """It holds its row and is about to touch the user's: the other order would be a deadlock."""
    await ingest(database)
    job = await claimed(database)
    ending = second.transaction()
    await ending.start()
    await second.fetch("SELECT complete_memory_jobs($1, $2, 'w')", [job.id], [job.attempt])
    task = asyncio.create_task(erasing.erase(SCOPE, key=None))
    await until_a_session_waits(connection)
    await second.execute("UPDATE memory_users SET version = version + 1 WHERE user_id = 'caroline'")
    await ending.commit()
    await task
    assert await names_of(connection) == {}


async def test_a_block_that_is_being_accepted_is_erased_or_new(
    database: Database, connection: asyncpg.Connection, erasing: Erasing, second: asyncpg.Connection
) -> None:
    await ingest(database)
    accepting = second.transaction()
    await accepting.start()
    await second.execute("UPDATE memory_users SET version = version + 1 WHERE user_id = 'caroline'")
    task = asyncio.create_task(erasing.erase(SCOPE, key=None))
    await until_a_session_waits(connection)
    await second.execute(
        "INSERT INTO memory_blocks (user_id, content) VALUES ('caroline', 'x');"
        "INSERT INTO memory_jobs (user_id, job_type) VALUES ('caroline', 'enrich_and_embed')"
    )
    await accepting.commit()
    receipt = await task
    assert (receipt.erasure.counts["blocks"], receipt.erasure.counts["jobs"]) == (2, 2)
    assert await names_of(connection) == {}


async def test_one_key_is_one_erasure_however_many_send_it(
    connect_database: Callable[[], Database], connection: asyncpg.Connection
) -> None:
    database = connect_database()
    await ingest(database)
    erasers = [
        Erasing(
            PostgresEraserStore(connect_database()),
            secret=b"s" * 32,
            caches=(),
            clock=SystemClock(),
        )
        for _ in range(4)
    ]
    receipts = await asyncio.gather(*(erasing.erase(SCOPE, key="k") for erasing in erasers))
    assert len({receipt.erasure.id for receipt in receipts}) == 1
    assert len({receipt.signature for receipt in receipts}) == 1
    assert receipts[0].erasure.counts["blocks"] == 1
    assert await connection.fetchval("SELECT count(*) FROM memory_erasures") == 1
    await ingest(database)
    assert (await erasers[0].erase(SCOPE, key="k")).erasure == receipts[0].erasure
    assert await connection.fetchval("SELECT count(*) FROM memory_blocks") == 1


async def test_ended_jobs_go_too_and_those_of_others_stay(
    database: Database, connection: asyncpg.Connection, erasing: Erasing
) -> None:
    await connection.execute(
        "INSERT INTO memory_jobs (user_id, job_type, status, payload)"
        " SELECT CASE WHEN n % 2 = 0 THEN 'caroline' ELSE 'melanie' END, 'weekly_summary',"
        " (ARRAY['pending', 'completed', 'failed', 'cancelled'])[1 + n % 4], '{\"a\": 1}'"
        " FROM generate_series(1, 400) AS n"
    )
    receipt = await erasing.erase(SCOPE, key=None)
    assert receipt.erasure.counts["jobs"] == 200
    assert await connection.fetchval("SELECT count(*) FROM memory_jobs") == 200


async def test_caches_forget_before_and_after(
    database: Database, erasing: Erasing, cache: Kept
) -> None:
    await ingest(database)
    receipt = await erasing.erase(SCOPE, key=None)
    assert receipt.erasure.counts["cached_entries"] == 3
    assert cache.forgotten == [SCOPE, SCOPE]


async def test_a_key_for_the_user_is_revoked_and_names_them_no_more(
    connection: asyncpg.Connection, erasing: Erasing
) -> None:
    await connection.execute(
        "INSERT INTO memory_api_keys (prefix, key_hash, user_id, name)"
        " VALUES ('lmk_a', 'h', 'caroline', 'of caroline'), ('lmk_b', 'h', NULL, 'all')"
    )
    await erasing.erase(SCOPE, key=None)
    rows = await connection.fetch(
        "SELECT prefix, user_id, name, revoked_at IS NULL AS live FROM memory_api_keys"
        " ORDER BY prefix"
    )
    assert [tuple(row) for row in rows] == [
        ("lmk_a", "", None, False),
        ("lmk_b", None, "all", True),
    ]


async def test_a_receipt_holds_until_something_of_before_is_found(
    database: Database, connection: asyncpg.Connection, erasing: Erasing
) -> None:
    await ingest(database)
    receipt = await erasing.erase(SCOPE, key=None)
    assert (await erasing.verify(receipt)).holds
    for forged in _forgeries(receipt):
        assert not (await erasing.verify(forged)).is_genuine
    await connection.execute(
        "INSERT INTO memory_usage (day, user_id, operation, model)"
        " VALUES ('2026-03-04', 'caroline', 'o', 'm')"
    )
    verdict = await erasing.verify(receipt)
    assert (verdict.holds, verdict.remaining) == (False, {"usage": 1})
    await ingest(database, new_block("New words."))
    assert (await erasing.verify(receipt)).holds, "they are of a user who came back"


def _forgeries(receipt: Receipt) -> list[Receipt]:
    erasure = receipt.erasure
    return [
        replace(receipt, scope=Scope("default", "melanie")),
        replace(receipt, scope=Scope("other", "caroline")),
        replace(receipt, signature="0" * 64),
        replace(receipt, signature=""),
        replace(receipt, erasure=replace(erasure, counts={**erasure.counts, "blocks": 2})),
        replace(receipt, erasure=replace(erasure, erased_at=erasure.started_at)),
    ]


async def test_spending_of_an_erased_user_names_no_user(
    database: Database, connection: asyncpg.Connection, erasing: Erasing
) -> None:
    await ingest(database)
    usage = PostgresUsageStore(database)
    entries = [
        UsageEntry(UsageKey(date(2026, 3, 4), SCOPE, "enrichment", model), Spent(calls=1))
        for model in ("a", "b")
    ]
    await usage.add(entries)
    assert (await erasing.erase(SCOPE, key=None)).erasure.counts["usage"] == 2
    await usage.add([*entries, entries[0]])
    rows = await connection.fetch("SELECT user_id, model, calls FROM memory_usage ORDER BY model")
    assert [tuple(row) for row in rows] == [("", "a", 2), ("", "b", 1)]
