"""What a process remembers of the answers PostgreSQL did not give."""

from __future__ import annotations

import time

import asyncpg
import pytest

from luma_memory.domain.errors import InvariantError, StoreContended, StoreUnavailable
from luma_memory.postgres.database import Database


async def test_a_missing_response_is_remembered_with_its_time(database: Database) -> None:
    before = time.monotonic()
    await database.fetch("SELECT 1")
    assert not database.was_away_since(before)
    with pytest.raises(StoreUnavailable):
        await database.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    assert database.was_away_since(before)
    assert not database.was_away_since(time.monotonic())
    await database.fetch("SELECT 1")
    assert database.was_away_since(before)  # an answer now does not undo it


async def test_a_locked_row_a_deadlock_and_a_wrong_statement_are_no_absence(
    database: Database, dsn: str
) -> None:
    other: asyncpg.Connection = await asyncpg.connect(dsn)
    await other.execute("SELECT pg_advisory_lock(4711)")

    async def wait_for_it() -> None:
        async with database.transaction():
            await database.execute("SET LOCAL lock_timeout = '10ms'")
            await database.execute("SELECT pg_advisory_lock(4711)")

    with pytest.raises(StoreContended):
        await wait_for_it()
    with pytest.raises(StoreUnavailable):
        await database.execute("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$")
    with pytest.raises(InvariantError):
        await database.execute("SELECT 1 / 0")
    assert not database.was_away_since(-1e9)
    await other.close()
