"""Backups, migrations, a role without a superuser's rights, and what Citus cannot do."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.citus.conftest import PARTITIONS
from tests.support.citus import Cluster, fresh_cluster
from tests.support.commands import run
from tests.support.partitions import users_of
from tests.support.running import ingest, working

from luma_memory.postgres.database import Database
from luma_memory.store.schema_nodes import Node, node_of
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.sample_blocks import new_block

pytestmark = pytest.mark.asyncio(loop_scope="module")
JOBS = "SELECT id, user_id, status FROM memory_jobs ORDER BY id"
BLOCKS = "SELECT id, user_id, content, status FROM memory_blocks ORDER BY id"


async def _command(cluster: Cluster, *arguments: str | Path) -> str:
    """What a command prints that succeeds."""
    done = await asyncio.to_thread(run, *map(str, arguments), DATABASE_URL=cluster.address)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def _refused(cluster: Cluster, *arguments: str) -> str:
    done = await asyncio.to_thread(run, *arguments, DATABASE_URL=cluster.address)
    assert done.returncode == 1, done.stdout
    return done.stdout + done.stderr


@asynccontextmanager
async def _opened(cluster: Cluster, number: int) -> AsyncIterator[Database]:
    schema = f"luma_p{number}" if number else "public"
    partition = Database(cluster.address, schema=schema, pool_size=2)
    try:
        yield partition
    finally:
        await partition.close()


async def _store(cluster: Cluster, number: int, text: str) -> None:
    """A block of two users of a partition, with its enrichment."""
    async with _opened(cluster, number) as partition:
        for user in users_of(number, PARTITIONS, 2):
            await ingest(partition, new_block(f"{user} {text}.", user_id=user))
        async with working(partition) as worker:
            await worker.events.wait_for(JobCompleted, count=2)


async def _rows(cluster: Cluster, number: int) -> list[tuple[object, ...]]:
    async with _opened(cluster, number) as partition:
        return [tuple(row) for text in (JOBS, BLOCKS) for row in await partition.fetch(text)]


async def _other_node(cluster: Cluster, number: int) -> Node:
    home = Database(cluster.address, pool_size=1)
    now = await node_of(home, f"luma_p{number}")
    await home.close()
    return next(node for node in cluster.nodes if node != now)


async def test_a_backup_is_restored_to_another_cluster_which_continues(tmp_path: Path) -> None:
    folder, single, home = (tmp_path / name for name in ("all", "single.dump", "home.dump"))
    async with fresh_cluster(partitions=PARTITIONS) as cluster:
        for number in range(PARTITIONS):
            await _store(cluster, number, "grows beans")
        before = [await _rows(cluster, number) for number in range(PARTITIONS)]
        await _command(cluster, "backup", folder)
        await _command(cluster, "backup", single, "--partition", "2")
        await _command(cluster, "backup", home, "--partition", "0")
    async with fresh_cluster(partitions=PARTITIONS) as cluster:
        await _command(cluster, "restore", folder)
        assert [await _rows(cluster, number) for number in range(PARTITIONS)] == before
        # New rows have other ids than those of the backup, also on the other node.
        for number in range(PARTITIONS):
            await _store(cluster, number, "sold them all")
        await _command(
            cluster, "partitions", "move", "1", "--to", str(await _other_node(cluster, 1))
        )
        await _store(cluster, 1, "regrets it")
    async with fresh_cluster(partitions=PARTITIONS) as cluster:
        for number, file in ((2, single), (0, home)):
            await _command(cluster, "restore", file, "--partition", str(number))
            assert await _rows(cluster, number) == before[number]
            await _store(cluster, number, "sold them all")


async def test_a_backup_of_a_cluster_is_restored_to_one_server(
    tmp_path: Path, empty_dsn: str
) -> None:
    async with fresh_cluster(partitions=PARTITIONS) as cluster:
        for number in range(PARTITIONS):
            await _store(cluster, number, "keeps bees")
        before = [await _rows(cluster, number) for number in range(PARTITIONS)]
        await _command(cluster, "backup", tmp_path / "all")
    plain = Cluster(empty_dsn, [])
    await _command(plain, "restore", tmp_path / "all")
    assert [await _rows(plain, number) for number in range(PARTITIONS)] == before
    for number in range(PARTITIONS):
        await _store(plain, number, "sells honey")


async def test_users_are_not_moved_one_by_one(cluster: Cluster) -> None:
    for direction in (("--count", str(PARTITIONS)), ("--back",)):
        refusal = await _refused(cluster, "partitions", "adopt", *direction)
        assert "export them, and import them" in refusal
    # Nothing was begun.
    await _store(cluster, 1, "stays")


async def test_a_partition_that_is_behind_is_migrated_on_its_node(cluster: Cluster) -> None:
    async with _opened(cluster, 2) as partition:
        # What two versions added, one a column and one an index.
        await partition.execute("ALTER TABLE memory_changes DROP COLUMN has_items")
        await partition.execute("DROP INDEX memory_blocks_item_ttl")
        await partition.execute(
            "DELETE FROM memory_migrations WHERE version ~ '^00(30_logged|32_items)'"
        )
    assert "luma-memory migrate" in await _refused(cluster, "doctor")
    migrated = await _command(cluster, "migrate")
    assert "partition 2 (luma_p2): 2 migrations applied" in migrated
    await _store(cluster, 2, "continues")
    await _command(cluster, "partitions", "move", "2", "--to", str(await _other_node(cluster, 2)))
    await _store(cluster, 2, "continues elsewhere")
    async with _opened(cluster, 2) as partition:
        (found,) = await partition.fetch(
            "SELECT count(*) AS missing FROM run_command_on_shards('memory_blocks',"
            " $$SELECT count(*) FROM pg_index WHERE indrelid = '%s'::regclass"
            "   AND pg_get_indexdef(indexrelid) ~ 'ttl_seconds IS NOT NULL'$$)"
            " WHERE result <> '1'"
        )
    assert found["missing"] == 0


async def test_a_role_without_a_superusers_rights_does_all_of_it(tmp_path: Path) -> None:
    role = f"luma_{secrets.token_hex(6)}"
    async with fresh_cluster(partitions=PARTITIONS, role=role) as cluster:
        for number in range(PARTITIONS):
            await _store(cluster, number, "reads maps")
        await _command(cluster, "migrate")
        await _command(cluster, "partitions", "list")
        await _command(cluster, "doctor")
        await _command(cluster, "backup", tmp_path / "all")
        await _command(
            cluster, "partitions", "move", "1", "--to", str(await _other_node(cluster, 1))
        )
        await _store(cluster, 1, "draws them")
