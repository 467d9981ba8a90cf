"""Repositories of several partitions over one pool: no state of a connection leads elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.bootstrap.placement import Placement, open_placement
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.postgres.database import Database
from luma_memory.store.events import PostgresEventStore

SCHEMAS = ("public", "luma_p1")
WHERE = "SELECT current_schema() AS name, pg_backend_pid() AS pid"


@pytest.fixture
async def placement(dsn: str) -> AsyncIterator[Placement]:
    """Two partitions of one server, over two connections."""
    server = Database(dsn, pool_size=2)
    await server.open()
    await Partitions(server).create(2, "luma_p")
    placement = await open_placement(server)
    assert placement.places is not None
    yield placement
    await placement.places.close()
    await server.close()


def _partitions(placement: Placement) -> list[Database]:
    assert placement.places is not None
    return [place.database for place in placement.places.all]


async def test_many_readers_of_the_stream_share_few_connections(
    placement: Placement, connection: asyncpg.Connection
) -> None:
    """Who gives positions needs a second connection while others wait for the positions."""
    for schema in SCHEMAS:
        await connection.execute(f"""
            INSERT INTO {schema}.memory_events
                (event_id, project_id, user_id, type, data, created_at)
            SELECT gen_random_uuid(), 'default', 'user', 'block.active', '{{}}', now()
            FROM generate_series(1, 3)""")
    events = placement.store(PostgresEventStore)
    await events.subscribe("default", datetime.now(UTC))
    pages = await asyncio.gather(
        *(events.events("default", user_id=None, types=(), after=0, limit=10) for _ in range(12))
    )
    assert [len(found) for found, _ in pages] == [6] * 12


async def test_statements_reach_their_partition_whatever_ended_the_last_one(
    placement: Placement, connection: asyncpg.Connection
) -> None:
    partitions = _partitions(placement)

    async def fails(partition: Database) -> None:
        with pytest.raises(LumaMemoryError):
            await partition.fetch("SELECT 1 / 0")

    async def is_cancelled(partition: Database) -> None:
        task = asyncio.create_task(partition.fetch("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'"
            " AND state = 'active'"
        ):
            pass
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def is_cancelled_on_its_way(partition: Database) -> None:
        for turns in range(6):
            task = asyncio.create_task(partition.fetch(WHERE))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def is_rolled_back(partition: Database) -> None:
        with pytest.raises(LumaMemoryError):
            async with partition.transaction():
                await partition.fetch("SELECT 1 / 0")

    async def loses_its_connection(partition: Database) -> None:
        for row in await partition.fetch(WHERE):
            await connection.fetchval("SELECT pg_terminate_backend($1, 5000)", row["pid"])

    for end in (fails, is_cancelled, is_cancelled_on_its_way, is_rolled_back, loses_its_connection):
        for partition in partitions:
            await end(partition)
            rows = await asyncio.gather(
                *(one.fetch(WHERE) for one in partitions * 3), return_exceptions=True
            )
            found = [row[0]["name"] for row in rows if not isinstance(row, BaseException)]
            assert end is loses_its_connection or len(found) == 6
            expected = list(SCHEMAS * 3)
            assert all(
                isinstance(row, LumaMemoryError) or row[0]["name"] == name  # type: ignore[index]
                for row, name in zip(rows, expected, strict=True)
            ), end.__name__
