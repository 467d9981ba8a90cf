"""Backups of users who are in several partitions, whole and of one partition."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.commands import run
from tests.support.partitions import users_of
from tests.support.postgres_majors import NEWEST
from tests.support.rows import MORE_ROWS
from tests.support.running import ingest, working
from tests.support.servers import Servers

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.domain.partition import Partition, layout_of
from luma_memory.partitions.move_target import NOT_COPIED
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import migrate
from luma_memory.postgres.table_copies import digest, enter, tables
from luma_memory.store.partitions import PartitionDirectory
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import new_block

COUNT = 3
USERS = [user for number in range(COUNT) for user in users_of(number, COUNT, 2)]


@dataclass
class Installation:
    """Users in three partitions, of which the last one has a database of its own."""

    home: Database
    dsn: str

    async def partitions(self) -> list[Partition]:
        return list(await PartitionDirectory(self.home).partitions())

    async def rows(self) -> list[dict[str, tuple[int, int]]]:
        """Count and sum of hashes of each table of each partition."""
        found = []
        for one in await self.partitions():
            database = self.home.beside(schema=one.schema, dsn=one.dsn)
            connection = await database.dedicated()
            await enter(connection, one.schema)
            found.append(
                {
                    table.name: await digest(connection, one.schema, table)
                    for table in await tables(connection, one.schema)
                    # Not durable, so that a backup has none of its rows, too.
                    if table.name not in NOT_COPIED
                }
            )
            await connection.close()
        return found


async def _command(name: str, *arguments: str | Path, dsn: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, name, *map(str, arguments), DATABASE_URL=dsn)


@pytest.fixture
async def installation(
    database: Database, dsn: str, servers: Servers
) -> AsyncIterator[Installation]:
    async with servers.fresh(NEWEST, template="template0") as other:
        done = await Partitions(database).create(COUNT, "luma_p", {2: other})
        assert [one.error for one in done] == [None, None]
        made = Installation(database, dsn)
        for number, one in enumerate(await made.partitions()):
            partition = database.beside(schema=one.schema, dsn=one.dsn)
            for user in users_of(number, COUNT, 2):
                await ingest(partition, new_block(f"A car of {user}.", user_id=user))
            async with working(partition) as worker:
                await worker.events.wait_for(JobCompleted, count=2)
            await partition.close()
        yield made


async def test_a_whole_backup_is_restored_to_one_database(
    installation: Installation, empty_dsn: str, tmp_path: Path
) -> None:
    await installation.home.execute(MORE_ROWS.partition("INSERT INTO memory_partitions")[0])
    folder, before = tmp_path / "backup", await installation.rows()
    made = await _command("backup", folder, dsn=installation.dsn)
    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
    assert len(list(folder.glob("*.dump"))) == COUNT
    again = await _command("backup", folder, dsn=installation.dsn)
    assert (again.returncode, "overwrites nothing" in again.stderr) == (1, True)
    restored = await _command("restore", folder, dsn=empty_dsn)
    assert restored.returncode == 0, restored.stderr
    new = Installation(Database(empty_dsn, pool_size=2), empty_dsn)
    assert layout_of(await new.partitions()) == "spread"
    assert [(one.schema, one.dsn) for one in await new.partitions()] == [
        ("public", None),
        ("luma_p1", None),
        ("luma_p2", None),
    ]
    assert await new.rows() == before
    # The users of a partition can be stored there, and those of others cannot.
    partition = Database(empty_dsn, schema="luma_p1", pool_size=2)
    await ingest(partition, new_block("More.", user_id=users_of(1, COUNT, 1)[0]))
    await partition.close()
    refused = await _command("restore", folder, dsn=empty_dsn)
    assert (refused.returncode, "not empty" in refused.stderr) == (1, True)
    await new.home.close()


async def test_an_interrupted_restore_leaves_no_user_and_can_be_repeated(
    installation: Installation, empty_dsn: str, tmp_path: Path
) -> None:
    folder, before = tmp_path / "backup", await installation.rows()
    assert (await _command("backup", folder, dsn=installation.dsn)).returncode == 0
    last = (folder / "partition-0.dump").read_bytes()
    (folder / "partition-0.dump").write_bytes(last[: len(last) // 2])
    failed = await _command("restore", folder, dsn=empty_dsn)
    assert failed.returncode == 1
    new = Installation(Database(empty_dsn, pool_size=2), empty_dsn)
    assert {rows["memory_users"][0] for rows in await new.rows()} == {0}
    assert layout_of(await new.partitions()) == "home"
    (folder / "partition-0.dump").write_bytes(last)
    done = await _command("restore", folder, dsn=empty_dsn)
    assert done.returncode == 0, done.stderr
    assert await new.rows() == before
    await new.home.close()


async def test_one_partition_is_restored_where_its_database_was_replaced(
    installation: Installation, servers: Servers, tmp_path: Path
) -> None:
    before = await installation.rows()
    folder, file = tmp_path / "backup", tmp_path / "second.dump"
    assert (await _command("backup", folder, dsn=installation.dsn)).returncode == 0
    one = await _command("backup", file, "--partition", "2", dsn=installation.dsn)
    assert one.returncode == 0, one.stderr
    refused = await _command("restore", folder, "--partition", "2", dsn=installation.dsn)
    assert (refused.returncode, "not empty" in refused.stderr) == (1, True)
    for source, schema in ((folder, "luma_p2"), (file, "luma_p2"), (folder, "elsewhere")):
        async with servers.fresh(NEWEST, template="template0") as empty:
            await installation.home.execute(
                "UPDATE memory_partitions SET dsn = $1, schema_name = $2 WHERE number = 2",
                empty,
                schema,
            )
            done = await _command("restore", source, "--partition", "2", dsn=installation.dsn)
            assert done.returncode == 0, done.stderr
            assert await installation.rows() == before


async def test_the_home_partition_is_restored_where_its_database_was_replaced(
    installation: Installation, empty_dsn: str, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    assert (await _command("backup", folder, dsn=installation.dsn)).returncode == 0
    refused = await _command("restore", folder, "--partition", "0", dsn=installation.dsn)
    assert (refused.returncode, "not empty" in refused.stderr) == (1, True)
    (address,) = [one.dsn for one in await installation.partitions() if one.dsn]
    other = Database(address, schema="luma_p2", pool_size=1)
    # The partition that was not lost has an event that is newer than the backup.
    await other.execute(
        "INSERT INTO memory_events"
        " (event_id, project_id, user_id, type, data, created_at, position)"
        " SELECT gen_random_uuid(), project_id, user_id, 't', '{}', now(), 1000 FROM memory_users"
        " LIMIT 1"
    )
    before = await installation.rows()
    lacking = await _command("restore", folder, "--partition", "0", dsn=empty_dsn)
    assert (lacking.returncode, "this installation one" in lacking.stderr) == (1, True)
    new = Installation(Database(empty_dsn, pool_size=2), empty_dsn)
    created = await _command("partitions", "create", "--count", str(COUNT), dsn=empty_dsn)
    assert created.returncode == 0, created.stderr
    await new.home.execute("UPDATE memory_partitions SET dsn = $1 WHERE number = 2", address)
    for lost in ("0", "1"):
        done = await _command("restore", folder, "--partition", lost, dsn=empty_dsn)
        assert done.returncode == 0, done.stderr
    assert await new.rows() == before
    (row,) = await new.home.fetch("SELECT nextval('memory_event_positions') AS position")
    assert row["position"] > 1000
    await other.close()
    await new.home.close()


async def test_a_backup_waits_for_no_move_and_is_no_mixture(
    installation: Installation, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    holder = await installation.home.dedicated()
    await holder.execute("SELECT pg_advisory_lock(hashtextextended('memory_partition_moves', 0))")
    moving = await _command("backup", folder, dsn=installation.dsn)
    assert (moving.returncode, "Another command" in moving.stderr) == (1, True)
    await holder.close()
    await installation.home.execute("UPDATE memory_partitions SET state = 'adopting'")
    adopting = await _command("backup", folder, dsn=installation.dsn)
    assert (adopting.returncode, "partitions adopt" in adopting.stderr) == (1, True)
    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []


async def test_what_is_no_folder_of_a_backup_is_refused(
    installation: Installation, empty_dsn: str, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    assert (await _command("backup", folder, dsn=installation.dsn)).returncode == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["schemas"] == ["public", "luma_p1", "luma_p2"]
    assert installation.dsn not in (folder / "manifest.json").read_text()
    (folder / "partition-1.dump").unlink()
    lacking = await _command("restore", folder, dsn=empty_dsn)
    assert (lacking.returncode, "lacks partition-1.dump" in lacking.stderr) == (1, True)
    (folder / "manifest.json").write_text("{}")
    other = await _command("restore", folder, dsn=empty_dsn)
    assert (other.returncode, "is no backup" in other.stderr) == (1, True)
    empty = Database(empty_dsn, pool_size=1)
    await migrate(empty)  # nothing was changed before
    await empty.close()
