"""A partition moved under load by a command that is killed: a ledger of all blocks."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import httpx2
import pytest
from tests.support.accepted import Ledger
from tests.support.killed_commands import output_of
from tests.support.load import client_of
from tests.support.partitions import two_servers, users_of
from tests.support.postgres_majors import NEWEST
from tests.support.servers import Servers
from tests.support.service import until_idle

from luma_memory.cli.processes import Stack
from luma_memory.postgres.database import Database
from luma_memory.settings import load_settings
from luma_memory.store.partitions import PartitionDirectory

HOME, OTHER = users_of(0, 2, 4), users_of(1, 2, 4)
BLOCKS_PER_SECOND = 50
# The command as a process of its own, which kills itself after a step.
MOVER = """
import asyncio, os, signal, sys
from luma_memory.partitions.moving import PartitionMove
from luma_memory.postgres.database import Database

home, target, schema, stop_at = sys.argv[1:]

def step(done):
    if done.name == stop_at:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    database = Database(home, pool_size=2)
    report = await PartitionMove(database, 1, on_step=step).run(target, schema)
    print(f"pause {report.pause_ms} rows {report.rows} rounds {report.rounds}")
    await database.close()

asyncio.run(main())
"""


@asynccontextmanager
async def _writing(client: httpx2.AsyncClient, ledger: Ledger) -> AsyncIterator[None]:
    """50 blocks a second, of users of both partitions in turn, until the end of the context."""
    is_over = asyncio.Event()

    async def write() -> None:
        users = [user for pair in zip(HOME, OTHER, strict=True) for user in pair]
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                group.create_task(ledger.write(client, users[number % len(users)], number))
                with suppress(TimeoutError):
                    async with asyncio.timeout(1 / BLOCKS_PER_SECOND):
                        await is_over.wait()
                        return

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        is_over.set()
        await writing


async def _moved(home: str, target: str, schema: str, stop_at: str = "") -> str | None:
    return await output_of(MOVER, home, target, schema, stop_at, is_killed=bool(stop_at))


async def _check_jobs(address: str, schema: str, users: list[str], ledger: Ledger) -> None:
    connection = await asyncpg.connect(address)
    rows = await connection.fetch(
        f"SELECT block_id::text AS block, status FROM {schema}.memory_jobs"
        " WHERE user_id = ANY ($1) AND block_id IS NOT NULL AND job_type = 'enrich_and_embed'",
        users,
    )
    await connection.close()
    assert {row["status"] for row in rows} == {"completed"}
    jobs = Counter(row["block"] for row in rows)
    assert jobs == Counter(block for user in users for block in ledger.accepted[user])


@asynccontextmanager
async def _service(servers: Servers) -> AsyncIterator[tuple[httpx2.AsyncClient, str, str]]:
    """A client of a service with two partitions; its database, and an empty one."""
    async with (
        two_servers(servers) as (home, _),
        servers.fresh(NEWEST, template="template0") as third,
    ):
        settings = load_settings(
            host="127.0.0.1", port=0, database_url=home, worker_poll_interval_ms=200
        )
        stack = Stack(settings, workers=1)
        await stack.start()
        try:
            async with client_of(stack) as client:
                yield client, home, third
        finally:
            await stack.stop()


async def _campaign(servers: Servers, stops: list[str]) -> None:
    async with _service(servers) as (client, home, third):
        ledger, pauses = Ledger(), []
        # Between two places: each move but the first goes back.
        places = itertools.cycle([(third, "luma_p1"), (home, "moved_p1")])
        async with _writing(client, ledger):
            for stop_at in stops:
                target, schema = next(places)
                await _moved(home, target, schema, stop_at)
                output = await _moved(home, target, schema)
                assert output is not None
                pauses.append(output.split()[1])
        await until_idle(client)
        await ledger.check(client)
        await _check_jobs(target, schema, list(OTHER), ledger)
        total = sum(map(len, ledger.accepted.values()))
        print(
            f"\n{total} accepted, moves {len(stops)}, pauses in ms {pauses}, slowest write:"
            f" moved users {ledger.longest(list(OTHER)):.2f} s, others"
            f" {ledger.longest(list(HOME)):.2f} s, refused and repeated {dict(ledger.refused)}"
        )


async def test_a_pause_ends_when_its_command_is_killed_and_not_repeated(servers: Servers) -> None:
    """Before the old place was given up, the partition serves there again; afterwards, the service
    itself completes the move."""
    async with _service(servers) as (client, home, third):
        directory = PartitionDirectory(Database(home, pool_size=1))
        ledger, user = Ledger(), OTHER[0]
        for turn, (stop_at, schema) in enumerate(
            [("paused", "luma_p1"), ("locked", "luma_p1"), ("renamed", "luma_p1")]
        ):
            before = (await directory.partitions())[1]
            await _moved(home, third, schema, stop_at)
            # Repeated by the client until it is accepted; without an end of the pause, for ever.
            async with asyncio.timeout(60):
                await ledger.write(client, user, turn)
                # The service writes that the move is complete after it has begun to serve.
                while (now := (await directory.partitions())[1]).state != "serving":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert ((now.dsn, now.schema) == (before.dsn, before.schema)) == (stop_at != "renamed")
        assert now.dsn == third
        await until_idle(client)
        await ledger.check(client)
        print(f"\nlongest wait for the end of a pause {ledger.longest([user]):.2f} s")


async def test_a_killed_move_continues_and_loses_nothing(servers: Servers) -> None:
    await _campaign(servers, ["locked"])


@pytest.mark.slow
async def test_moves_killed_at_five_places_lose_and_double_nothing(servers: Servers) -> None:
    await _campaign(servers, ["copied a chunk", "round", "paused", "locked", "renamed"])
