"""Statements fail with a deadlock (40P01) again and again; a block has one job of each type."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx2
import pytest
from tests.support.keyed_service import running_keyed_service
from tests.support.service import RETRY_SECONDS, until_idle

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

BLOCKS = 128
# Every so many statements, or rows: fewer rows than a batch writes would fail every batch.
EVERY = {False: 9, True: 997}
TABLES = ("memory_users", "memory_blocks", "memory_passages", "memory_jobs")
# A sequence keeps its value when the statement that it fails is rolled back. Deferred, the
# trigger fails the commit of a statement that has done all its work.
INJECT = """
CREATE SEQUENCE injected_calls;
GRANT USAGE ON SEQUENCE injected_calls TO PUBLIC;
CREATE FUNCTION inject_deadlock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF mod(nextval('injected_calls'), $EVERY) = 0 THEN
        RAISE EXCEPTION 'injected' USING ERRCODE = 'deadlock_detected';
    END IF;
    RETURN NULL;
END $$;
"""
JOBS = """
SELECT block_id, job_type, payload ? 'backfill' AS is_backfill, count(*) AS jobs
FROM memory_jobs WHERE block_id IS NOT NULL GROUP BY 1, 2, 3
"""


@asynccontextmanager
async def injected(database_url: str, *, at_commit: bool) -> AsyncIterator[None]:
    connection = await asyncpg.connect(database_url)
    kind = "CONSTRAINT TRIGGER" if at_commit else "TRIGGER"
    timing = "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW" if at_commit else "FOR EACH STATEMENT"
    try:
        await connection.execute(INJECT.replace("$EVERY", str(EVERY[at_commit])))
        for table in TABLES:
            await connection.execute(
                f"CREATE {kind} inject AFTER INSERT OR UPDATE ON {table} {timing}"
                " EXECUTE FUNCTION inject_deadlock()"
            )
        yield
    finally:
        for table in TABLES:
            await connection.execute(f"DROP TRIGGER inject ON {table}")
        await connection.execute("DROP FUNCTION inject_deadlock()")
        await connection.execute("DROP SEQUENCE injected_calls")
        await connection.close()


async def accept(client: httpx2.AsyncClient, number: int) -> str:
    """As a client does: the same request again until it is accepted."""
    body = {"user_id": f"user-{number % 4}", "content": f"The box number {number} is in the attic."}
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            response = await client.post(
                "/blocks", json=body, headers={"Idempotency-Key": f"box-{number}"}
            )
            if response.status_code != 503:
                assert response.status_code in (200, 202), response.text
                return str(response.json()["id"])
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("at_commit", [False, True])
async def test_a_block_has_one_job_of_a_type(tmp_path: Path, at_commit: bool) -> None:
    async with running_keyed_service(
        tmp_path / "data", relations_enabled=True, relation_detection_rate_limit=10_000
    ) as api:
        url = api.stack.database_url
        async with api.client(await api.key("ingest", "read", "admin")) as client:
            async with injected(url, at_commit=at_commit):
                accepted = await asyncio.gather(*(accept(client, n) for n in range(BLOCKS)))
                await asyncio.sleep(2)  # the worker meets them, too
            assert len(set(accepted)) == BLOCKS
            await until_idle(client)
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(JOBS)
            states = await connection.fetch("SELECT status, backfill_at FROM memory_blocks")
        finally:
            await connection.close()
    assert Counter(row["status"] for row in states) == {"active": BLOCKS}
    assert [row["backfill_at"] for row in states if row["backfill_at"] is not None] == []
    twice = [dict(row) for row in rows if row["jobs"] > 1 or row["is_backfill"]]
    assert twice == []
    assert Counter(row["job_type"] for row in rows) == {
        "enrich_and_embed": BLOCKS,
        "detect_relations": BLOCKS,
    }
