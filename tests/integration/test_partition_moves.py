"""A partition moved to another database: all rows, changes meanwhile, interruptions, refusals."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
from tests.support.commands import run
from tests.support.rows import MORE_ROWS
from tests.support.running import ingest, working

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.cli.checks import partition_findings
from luma_memory.domain.errors import Conflict, NotFound, SetupError, StoreUnavailable
from luma_memory.partitions.move_target import NOT_COPIED
from luma_memory.partitions.moving import MoveStep, PartitionMove
from luma_memory.postgres.database import Database
from luma_memory.postgres.table_copies import Table, digest, enter, tables
from luma_memory.store.partition_moves import PartitionMoves
from luma_memory.store.partitions import PartitionDirectory
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import new_block

# Of two partitions, the second one has this user.
USER = "caroline"


class InterruptedMoveError(Exception):
    """What a test interrupts a move with."""


@dataclass
class Scene:
    """A home partition, a partition in its database, and an empty other database."""

    home: Database
    partition: Database
    other: str

    def move(self, stop_at: str | None = None) -> PartitionMove:
        def step(done: MoveStep) -> None:
            if done.name == stop_at:
                raise InterruptedMoveError

        return PartitionMove(self.home, 1, on_step=step)

    async def place(self) -> tuple[str | None, str, str]:
        one = (await PartitionDirectory(self.home).partitions())[1]
        return one.dsn, one.schema, one.state

    def moved(self, schema: str = "luma_p1") -> Database:
        return Database(self.other, schema=schema, pool_size=2)


@pytest.fixture
async def scene(database: Database, dsn: str, empty_dsn: str) -> AsyncIterator[Scene]:
    await Partitions(database).create(2, "luma_p")
    partition = Database(dsn, schema="luma_p1", pool_size=4, acquire_timeout_seconds=60.0)
    for n in range(3):
        await ingest(partition, new_block(f"Caroline bought car {n}.", user_id=USER))
    async with working(partition) as worker:
        await worker.events.wait_for(JobCompleted, count=3)
    yield Scene(database, partition, empty_dsn)
    await partition.close()


async def _digests(database: Database, schema: str) -> dict[str, tuple[int, int]]:
    connection = await database.dedicated()
    await enter(connection, schema)
    copied = [one for one in await tables(connection, schema) if one.name not in NOT_COPIED]
    found = {one.name: await digest(connection, schema, one) for one in copied}
    await connection.close()
    return found


async def test_every_table_can_be_copied_or_is_left_out_for_a_reason(
    connection: asyncpg.Connection,
) -> None:
    names = {
        row["relname"]
        for row in await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p')"
        )
    }
    found: dict[str, Table] = {one.name: one for one in await tables(connection, "public")}
    assert set(found) == names
    assert set(NOT_COPIED) <= names
    assert all(one.key and one.log.startswith("moving_") for one in found.values())


async def test_all_rows_move_and_changes_meanwhile_too(scene: Scene) -> None:
    await scene.partition.execute(MORE_ROWS)
    before = await _digests(scene.partition, "luma_p1")
    # Workers remove their row when they stop.
    assert {name for name, (rows, _) in before.items() if rows == 0} <= {"memory_workers"}
    assert before["memory_blocks"][0] == 3
    changed = asyncio.Event()

    async def change() -> None:
        await changed.wait()
        await ingest(scene.partition, new_block("A fourth car.", user_id=USER))
        await scene.partition.execute("UPDATE memory_blocks SET importance = 0.25")
        await scene.partition.execute(
            "DELETE FROM memory_blocks WHERE content = 'Caroline bought car 1.'"
        )

    changing = asyncio.create_task(change())
    steps = []

    def step(done: MoveStep) -> None:
        steps.append(done.name)
        if done.name == "copied":
            changed.set()

    report = await PartitionMove(scene.home, 1, on_step=step).run(scene.other, None)
    await changing
    assert await scene.place() == (scene.other, "luma_p1", "serving")
    after = await _digests(scene.moved(), "luma_p1")
    old = await _digests(scene.partition, report.old_schema)
    assert after == old
    assert after["memory_blocks"][0] == 3
    assert report.pause_ms is not None
    assert steps[0] == "begun"
    assert steps[-3:] == ["locked", "renamed", "moved"]
    # New rows continue behind the old ones' ids, and nothing of the move is left.
    moved = scene.moved()
    await ingest(moved, new_block("A fifth car.", user_id=USER))
    row = await moved.fetch_row(
        "SELECT count(*) AS jobs, count(DISTINCT id) AS ids FROM memory_jobs"
    )
    assert row is not None
    assert row["jobs"] == row["ids"] == 5
    left = await moved.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'moving%'")
    assert left == []
    await moved.close()
    assert await PartitionMoves(scene.home).all() == []


async def test_the_old_place_refuses_writes(scene: Scene) -> None:
    """Also those of a session that found the tables before they were renamed."""
    await scene.partition.execute("UPDATE memory_users SET version = version + 1")
    report = await scene.move().run(scene.other, None)
    for statement in (
        "UPDATE memory_users SET version = version + 1",
        "INSERT INTO memory_users (user_id) VALUES ('caroline') ON CONFLICT DO NOTHING",
        "SELECT FROM memory_blocks",
        "SELECT FROM memory_summaries LIMIT 1",
        "DELETE FROM memory_jobs WHERE id = 1",
    ):
        with pytest.raises(SetupError):
            await scene.partition.execute(statement)
    with pytest.raises(SetupError):
        await ingest(scene.partition, new_block(user_id=USER))
    old = Database(scene.partition._dsn, schema=report.old_schema, pool_size=1)
    with pytest.raises(SetupError):
        await old.execute("UPDATE memory_users SET version = version + 1")
    await old.close()


@pytest.mark.parametrize("stop_at", ["begun", "copied a chunk", "round", "locked"])
async def test_an_interrupted_move_continues_or_is_undone(scene: Scene, stop_at: str) -> None:
    before = await _digests(scene.partition, "luma_p1")
    with pytest.raises(InterruptedMoveError):
        await scene.move(stop_at).run(scene.other, None)
    assert await scene.place() == (None, "luma_p1", "serving")
    await ingest(scene.partition, new_block("Written in between.", user_id=USER))
    with pytest.raises(Conflict, match="another place"):
        await scene.move().run(scene.other, "elsewhere")
    await scene.move().undo()
    assert await PartitionMoves(scene.home).all() == []
    with pytest.raises(NotFound):
        await scene.move().undo()
    left = await scene.partition.fetch(
        "SELECT relname FROM pg_class WHERE relname LIKE 'moving%'"
        " UNION ALL SELECT tgname FROM pg_trigger WHERE tgname LIKE 'moving%'"
        " UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'moving%'"
    )
    assert left == []
    with pytest.raises(InterruptedMoveError):
        await scene.move(stop_at).run(scene.other, None)
    await ingest(scene.partition, new_block("And once more.", user_id=USER))
    report = await scene.move().run(scene.other, None)
    after = await _digests(scene.moved(), "luma_p1")
    assert after["memory_blocks"][0] == before["memory_blocks"][0] + 2
    assert after == await _digests(scene.partition, report.old_schema)


async def test_a_move_that_was_renamed_is_finished(scene: Scene) -> None:
    with pytest.raises(InterruptedMoveError):
        await scene.move("renamed").run(scene.other, None)
    assert await scene.place() == (scene.other, "luma_p1", "serving")
    assert await PartitionMoves(scene.home).all() == []


async def test_a_place_that_cannot_be_used_is_refused_in_a_sentence(scene: Scene, dsn: str) -> None:
    with pytest.raises(StoreUnavailable, match="The target"):
        await scene.move().run("postgresql://nobody@127.0.0.1:1/none", None)
    with pytest.raises(Conflict, match="at this place already"):
        await scene.move().run(dsn, None)
    with pytest.raises(Conflict, match="is not empty"):
        await scene.move().run(dsn, "public")
    with pytest.raises(Conflict, match="home partition"):
        await PartitionMove(scene.home, 0).run(scene.other, None)
    with pytest.raises(NotFound, match="no partition 7"):
        await PartitionMove(scene.home, 7).run(scene.other, None)
    assert await scene.place() == (None, "luma_p1", "serving")
    # To another schema of the same database, and to the home partition's address from another one.
    await scene.move().run(dsn, "renamed", drop_old=True)
    assert await scene.place() == (None, "renamed", "serving")
    await scene.move().run(scene.other, None, drop_old=True)
    await scene.move().run(dsn, "luma_p1")
    assert await scene.place() == (None, "luma_p1", "serving")


async def test_one_command_at_a_time(scene: Scene) -> None:
    holder = await scene.home.dedicated()
    await holder.execute("SELECT pg_advisory_lock(hashtextextended('memory_partition_moves', 0))")
    with pytest.raises(Conflict, match="Another command"):
        await scene.move().run(scene.other, None)
    await holder.close()


async def test_the_command_reports_the_move_and_what_was_interrupted(
    scene: Scene, dsn: str
) -> None:
    with pytest.raises(InterruptedMoveError):
        await scene.move("copied").run(scene.other, None)
    await PartitionDirectory(scene.home).set_state(1, "paused")  # as when it is killed in the pause
    (_, report) = await Partitions(scene.home).reports()
    (finding,) = partition_findings([report])
    assert (finding.verdict, "writes are paused" in finding.detail) == ("warn", True)
    assert "partitions move 1 --undo" in finding.fix

    async def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run, "partitions", *arguments, DATABASE_URL=dsn)

    listed = await command("list", "--json")
    assert json.loads(listed.stdout)[1]["move"]["phase"] == "copying"
    away = await command("move", "1", "--to", "postgresql://nobody@127.0.0.1:1/none")
    assert (away.returncode, "The target: " in away.stderr) == (1, True)
    assert "Traceback" not in away.stderr
    done = await command("move", "1", "--to", scene.other, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pause_ms"] > 0
    assert "compared" in done.stderr
    assert scene.other not in done.stdout + done.stderr
    nothing = await command("move", "1", "--undo")
    assert (nothing.returncode, "No move of partition 1" in nothing.stderr) == (1, True)
    both = await command("move", "1")
    assert (both.returncode, "--undo" in both.stderr) == (2, True)


async def test_a_copy_that_differs_is_not_used(scene: Scene) -> None:
    with pytest.raises(InterruptedMoveError):
        await scene.move("copied").run(scene.other, None)
    moved = scene.moved()
    await moved.execute("UPDATE memory_blocks SET importance = 0.125")
    await moved.close()
    with pytest.raises(Conflict, match="memory_blocks differs"):
        await scene.move().run(scene.other, None)
    assert await scene.place() == (None, "luma_p1", "serving")
    assert await PartitionMoves(scene.home).all() == []
    # Nor one with another schema, as when a newer version migrated the partition meanwhile.
    await scene.partition.execute("INSERT INTO memory_migrations (version) VALUES ('9999_later')")
    with pytest.raises(Conflict, match="different migrations"):
        await scene.move().run(scene.other, None)
    assert await scene.place() == (None, "luma_p1", "serving")
    await ingest(scene.partition, new_block("Still written here.", user_id=USER))
