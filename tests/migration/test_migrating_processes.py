"""`luma-memory migrate` as a process: killed midway, and never blocking others for long."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.support.commands import COMMAND, clean_environment
from tests.support.locks import until_a_session_waits, until_no_session_waits
from tests.support.machine_load import within

from luma_memory.postgres.migrator import migration_names

pytestmark = pytest.mark.slow

LOCK_SECONDS = 2.0
# A busy machine's due; a wait without a bound is minutes.
MARGIN_SECONDS = 1.5
_PLAIN = """
CREATE TABLE memory_blocks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text NOT NULL, content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO memory_blocks (user_id, content) VALUES ('ada', 'Ada lives in Lisbon.');
"""


@asynccontextmanager
async def table_in_use(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A session reads memory_blocks in a transaction that does not end."""
    reader = await asyncpg.connect(dsn)
    try:
        await reader.execute("BEGIN; SELECT count(*) FROM memory_blocks")
        yield reader
    finally:
        await reader.close()


async def migrating(dsn: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        "migrate",
        env=clean_environment(DATABASE_URL=dsn),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_statements_behind_a_waiting_migration_wait_two_seconds_at_most(
    empty_dsn: str,
) -> None:
    table = await asyncpg.connect(empty_dsn)
    await table.execute(_PLAIN)
    async with table_in_use(empty_dsn):
        process = await migrating(empty_dsn)
        waits: list[float] = []
        for _ in range(3):  # three of its attempts
            await until_a_session_waits(table)
            started = time.monotonic()
            assert await table.fetchval("SELECT count(*) FROM memory_blocks") == 1
            waits.append(time.monotonic() - started)
        assert max(waits) < within(LOCK_SECONDS + MARGIN_SECONDS)
        assert process.returncode is None
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    print(f"measured: waits of {[round(wait, 2) for wait in waits]} s")
    await table.close()


async def test_a_killed_process_leaves_nothing_and_the_next_one_does_the_work(
    empty_dsn: str,
) -> None:
    table = await asyncpg.connect(empty_dsn)
    await table.execute(_PLAIN)
    async with table_in_use(empty_dsn):
        process = await migrating(empty_dsn)
        await until_a_session_waits(table)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        # The server has the whole script, and would finish it if the table came free now.
        await until_no_session_waits(table)
    assert await table.fetchval("SELECT to_regclass('memory_migrations')") is None
    first, second = await migrating(empty_dsn), await migrating(empty_dsn)
    outputs = [(await process.communicate())[0].decode() for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    # Each reports the migrations applied while it ran, by either of the two.
    assert "applied" in {output.split()[0] for output in outputs}
    rows = await table.fetch("SELECT version FROM memory_migrations ORDER BY version")
    assert [row["version"] for row in rows] == migration_names()
    assert await table.fetchval("SELECT count(*) FROM memory_jobs") == 1
    await table.close()
