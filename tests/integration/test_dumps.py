"""A backup and the database made from it, row by row."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import ingest, working

from luma_memory.domain.errors import Invalid, SetupError
from luma_memory.postgres.database import Database
from luma_memory.postgres.dumps import dump, holds_something, load
from luma_memory.postgres.migrator import migrate
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import new_block

supported = every_postgres


@pytest.fixture
async def target(empty_dsn: str) -> AsyncIterator[Database]:
    """A migrated database with nothing in it."""
    database = Database(empty_dsn, pool_size=2)
    await migrate(database)
    yield database
    await database.close()


async def contents(dsn: str) -> dict[str, list[str]]:
    """Every row of every table of ours but the history."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'memory\\_%'"
            " AND relname <> 'memory_migrations'"
        )
        return {
            name: sorted(row[0] for row in await connection.fetch(f"SELECT t::text FROM {name} t"))
            for name in (row["relname"] for row in tables)
        }
    finally:
        await connection.close()


@supported
async def test_a_restored_dump_is_complete_and_processing_continues(
    database: Database, dsn: str, target: Database, empty_dsn: str, tmp_path: Path
) -> None:
    async with working(database) as worker:
        await ingest(database, new_block("Ada lives in Lisbon."), new_block("Grace plays."))
        await worker.events.wait_for(JobCompleted, count=2)
    await ingest(database, new_block("Linus waits."))  # its job is pending
    file = tmp_path / "memory.dump"
    await dump(database, dsn, file)
    assert not await holds_something(target)
    await load(target, empty_dsn, file)
    assert await holds_something(target)
    kept = await contents(empty_dsn)
    assert kept == await contents(dsn)
    assert len(kept["memory_blocks"]) == 3
    # Sequences continue where they were, and the pending job is done.
    async with working(target) as worker:
        await ingest(target, new_block("Ada is back."))
        await worker.events.wait_for(JobCompleted, count=2)


async def test_a_backup_is_readable_by_its_owner_alone(
    database: Database, dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "memory.dump"
    # A backup that was killed left its unfinished file with the modes of earlier versions.
    file.with_name("memory.dump.unfinished").write_text("")
    before = os.umask(0)
    try:
        await dump(database, dsn, file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_backup_overwrites_nothing(database: Database, dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "memory.dump"
    file.write_text("something else")
    with pytest.raises(Invalid) as caught:
        await dump(database, dsn, file)
    assert caught.value.code == "file_exists"
    assert file.read_text() == "something else"


async def test_what_is_no_backup_changes_nothing(
    target: Database, empty_dsn: str, tmp_path: Path
) -> None:
    before = await contents(empty_dsn)
    file = tmp_path / "memory.dump"
    file.write_bytes(b"PGDMP but not really one")
    with pytest.raises(SetupError) as caught:
        await load(target, empty_dsn, file)
    assert caught.value.code == "backup_failed"
    file.write_bytes(b"<html>")
    with pytest.raises(Invalid) as refused:
        await load(target, empty_dsn, file)
    assert refused.value.code == "not_a_backup"
    assert await contents(empty_dsn) == before


async def test_rows_that_do_not_fit_leave_the_database_as_it_was(
    database: Database, dsn: str, target: Database, empty_dsn: str, tmp_path: Path
) -> None:
    await ingest(database, new_block("Ada lives in Lisbon."))
    file = tmp_path / "memory.dump"
    await dump(database, dsn, file)
    await target.execute("ALTER TABLE memory_blocks ADD CHECK (content <> 'Ada lives in Lisbon.')")
    secrets = (await contents(empty_dsn))["memory_secrets"]
    with pytest.raises(SetupError, match="The backup's program failed"):
        await load(target, empty_dsn, file)
    assert not await holds_something(target)
    kept = (await contents(empty_dsn))["memory_secrets"]
    assert [row.rsplit(",", 1)[0] for row in kept] == [row.rsplit(",", 1)[0] for row in secrets]


async def test_a_database_that_is_away_leaves_no_half_a_file(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "memory.dump"
    with pytest.raises(SetupError) as caught:
        await dump(database, "postgresql://ada:open-sesame@127.0.0.1:1/memory", file)
    assert "sesame" not in str(caught.value)
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - a folder of the test
