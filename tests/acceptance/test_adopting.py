"""A running database split into partitions under load by a command that is killed: a ledger."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg
import httpx2
import pytest
from tests.support.accepted import Ledger
from tests.support.killed_commands import output_of
from tests.support.load import client_of
from tests.support.postgres_majors import NEWEST
from tests.support.servers import Servers
from tests.support.service import until_idle

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.cli.processes import Stack
from luma_memory.domain.partition import partition_number
from luma_memory.domain.scope import Scope
from luma_memory.postgres.database import Database
from luma_memory.settings import load_settings

COUNT = 4
BLOCKS_PER_SECOND = 50
USERS = [f"user-{n}" for n in range(40)]
STOPS = ["listed", "begun", "locked", "written", "emptied"]
# The command as a process of its own, which kills itself after a step of that name.
COMMAND = """
import asyncio, os, signal, sys
from luma_memory.partitions.adopting import Adoption
from luma_memory.postgres.database import Database

home, method, stop_at, turn = sys.argv[1:]
turns = 0

def step(done):
    global turns
    if done.name == stop_at:
        turns += 1
        if turns == int(turn):
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    database = Database(home, pool_size=2)
    report = await getattr(Adoption(database, on_step=step), method)()
    print(f"{report.users} {report.rows} {report.pause_ms_max}")
    await database.close()

asyncio.run(main())
"""


@dataclass
class Reads:
    """What readers saw of users whose first block was accepted."""

    count: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0


@asynccontextmanager
async def _load(client: httpx2.AsyncClient, ledger: Ledger, reads: Reads) -> AsyncIterator[None]:
    """Writers of 50 blocks a second, also of new users, and two readers, until the end."""
    is_over = asyncio.Event()

    async def write() -> None:
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                user = USERS[number % len(USERS)] if number % 20 else f"new-{number}"
                group.create_task(ledger.write(client, user, number))
                with suppress(TimeoutError):
                    async with asyncio.timeout(1 / BLOCKS_PER_SECOND):
                        await is_over.wait()
                        return

    async def read(turn: int) -> None:
        """The accepted blocks are there before, during and after the move of the user."""
        for number in itertools.count(turn):
            if is_over.is_set():
                return
            user = USERS[number * 7 % len(USERS)]
            known = list(ledger.accepted.get(user, ()))[-20:]
            began = time.monotonic()
            for block in known[:1] + known[-1:]:
                response = await client.get(f"/blocks/{block}", params={"user_id": user})
                reads.count += 1
                if response.status_code != 200:
                    reads.wrong.append(f"{ledger.stage}: {user} {block} {response.text}")
            reads.slowest = max(reads.slowest, time.monotonic() - began)
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(one) for one in (write(), read(0), read(3))]
    try:
        yield
    finally:
        is_over.set()
        await asyncio.gather(*tasks)


async def _run(home: str, method: str, stop_at: str = "", turn: int = 1) -> str | None:
    return await output_of(COMMAND, home, method, stop_at, str(turn), is_killed=bool(stop_at))


async def _check_places(home: str, ledger: Ledger, *, is_spread: bool) -> None:
    """Every user is in one partition, with one completed job for each block."""
    connection = await asyncpg.connect(home)
    found: dict[str, set[int]] = {}
    jobs: list[str] = []
    for number in range(COUNT):
        schema = "public" if number == 0 else f"luma_p{number}"
        for table in ("memory_users", "memory_blocks", "memory_passages", "memory_jobs"):
            for row in await connection.fetch(f"SELECT DISTINCT user_id FROM {schema}.{table}"):
                found.setdefault(row["user_id"], set()).add(number)
        rows = await connection.fetch(
            f"SELECT block_id::text AS block, status FROM {schema}.memory_jobs"
            " WHERE job_type = 'enrich_and_embed'"
        )
        assert {row["status"] for row in rows} <= {"completed"}
        jobs += [row["block"] for row in rows]
    await connection.close()
    for user, numbers in found.items():
        number = partition_number(Scope("default", user), COUNT) if is_spread else 0
        assert numbers == {number}, user
    accepted = [block for blocks in ledger.accepted.values() for block in blocks]
    assert sorted(jobs) == sorted(accepted)


async def _campaign(servers: Servers, stops: list[str]) -> None:
    template = await servers.template(NEWEST)
    async with servers.fresh(NEWEST, template=template) as home:
        database = Database(home, pool_size=1)
        await database.execute("INSERT INTO memory_users (user_id) VALUES ('first')")
        await Partitions(database).create(COUNT, "luma_p")
        await database.close()
        settings = load_settings(
            host="127.0.0.1", port=0, database_url=home, worker_poll_interval_ms=200
        )
        stack = Stack(settings, workers=1)
        await stack.start()
        try:
            async with client_of(stack) as client:
                ledger, reads, reports = Ledger(), Reads(), []
                for user in USERS:
                    await ledger.write(client, user, -1)
                async with _load(client, ledger, reads):
                    for turn, stop_at in enumerate(stops):
                        method = ("adopt", "return_users")[turn % 2]
                        of_users = stop_at in {"locked", "written"}
                        for of_turn in (1, 9) if of_users else (1,):
                            ledger.stage = f"{method} until {stop_at} {of_turn}"
                            await _run(home, method, stop_at, of_turn)
                        # The pause of a user ends with the command, which is not repeated yet.
                        async with asyncio.timeout(60):
                            for user in USERS:
                                await ledger.write(client, user, -2 - turn)
                        ledger.stage = f"{method} after {stop_at}"
                        reports.append(await _run(home, method))
                await until_idle(client)
                await ledger.check(client)
                await _check_places(home, ledger, is_spread=len(stops) % 2 == 1)
                assert reads.wrong == []
                total = sum(map(len, ledger.accepted.values()))
                print(
                    f"\n{total} blocks of {len(ledger.accepted)} users accepted; users, rows and"
                    f" the longest pause in ms of each last run {reports}; slowest write"
                    f" {ledger.longest(list(ledger.accepted)):.2f} s, {reads.count} reads, slowest"
                    f" two {reads.slowest:.2f} s, refused and repeated {dict(ledger.refused)}"
                )
        finally:
            await stack.stop()


async def test_a_killed_adoption_continues_and_loses_nothing(servers: Servers) -> None:
    await _campaign(servers, ["written"])


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", STOPS)
async def test_adoptions_killed_at_five_places_lose_and_double_nothing(
    servers: Servers, stop_at: str
) -> None:
    """To and fro: each is continued, and the next one goes the other way."""
    await _campaign(servers, [stop_at, stop_at])
