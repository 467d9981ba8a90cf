"""Partitions that Citus moves between its nodes, and killed nodes, under load: a ledger."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg
import httpx2
import pytest
from tests.citus.conftest import PARTITIONS
from tests.support.accepted import Ledger
from tests.support.citus import Cluster
from tests.support.commands import clean_environment
from tests.support.load import client_of
from tests.support.partitions import users_of
from tests.support.service import until_idle

from luma_memory.cli.processes import Stack
from luma_memory.postgres.database import Database
from luma_memory.settings import load_settings
from luma_memory.store.schema_nodes import Node, node_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.kills_nodes]
BLOCKS_PER_SECOND = 50
WAIT_SECONDS = 120.0
USERS = [list(users_of(number, PARTITIONS, 4, prefix="moved")) for number in range(PARTITIONS)]
MOVED = range(1, PARTITIONS)


class Campaign:
    """A service under load on a cluster."""

    def __init__(self, cluster: Cluster, client: httpx2.AsyncClient, home: Database) -> None:
        self.cluster = cluster
        self.client = client
        self.ledger = Ledger()
        self._home = home

    async def node_of(self, number: int) -> Node:
        found = await node_of(self._home, f"luma_p{number}")
        assert found is not None
        return found

    async def other_node(self, number: int) -> Node:
        now = await self.node_of(number)
        return next(node for node in self.cluster.nodes if node != now)

    async def move(self, number: int, *, is_killed: bool = False) -> float | None:
        """To the other node by the command; its seconds, None if it failed or was killed."""
        target = await self.other_node(number)
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "luma_memory.cli", "partitions", "move", str(number)),
            *("--to", str(target), "--json"),
            env=clean_environment() | {"DATABASE_URL": self.cluster.address},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        if is_killed:
            # Its first line: it has begun to copy, or is over.
            assert command.stderr is not None
            await command.stderr.readline()
            with suppress(ProcessLookupError):
                command.kill()
        output, errors = await command.communicate()
        if command.returncode == 0:
            assert await self.node_of(number) == target
            return float(json.loads(output)["seconds"])
        assert is_killed or b"repeat" in errors or b"Citus did not move" in errors, errors.decode()
        return None

    async def moved(self, number: int) -> float:
        """The seconds of a move, repeated until it succeeds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (seconds := await self.move(number)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        return seconds

    async def grown(self, partitions: Sequence[int], count: int = 3) -> None:
        """Until so many more blocks of users of each partition were accepted."""
        goals = {number: self.accepted(number) + count for number in partitions}
        async with asyncio.timeout(WAIT_SECONDS):
            while any(self.accepted(n) < goal for n, goal in goals.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def accepted(self, number: int) -> int:
        return sum(len(self.ledger.accepted.get(user, ())) for user in USERS[number])

    async def killed_node(self, node: Node) -> None:
        """Kill a node; users of the others are served; start it; its users are served again."""
        there = [number for number in MOVED if await self.node_of(number) == node]
        await self.cluster.kill(node)
        try:
            await self.grown([n for n in range(PARTITIONS) if n not in there])
        finally:
            await self.cluster.start(node)
        await self.grown(there)

    async def check(self) -> int:
        """Every accepted block is there once, enriched by one job, and there is no other job; how
        many there are."""
        await until_idle(self.client)
        await self.ledger.check(self.client)
        connection = await asyncpg.connect(self.cluster.address)
        for number, users in enumerate(USERS):
            schema = f"luma_p{number}" if number else "public"
            rows = await connection.fetch(
                f"SELECT block_id::text AS block, status FROM {schema}.memory_jobs"
                " WHERE user_id = ANY ($1) AND job_type = 'enrich_and_embed'",
                users,
            )
            assert {row["status"] for row in rows} == {"completed"}
            accepted = [block for user in users for block in self.ledger.accepted.get(user, ())]
            assert Counter(row["block"] for row in rows) == Counter(accepted)
        await connection.close()
        return sum(map(len, self.ledger.accepted.values()))


@asynccontextmanager
async def _campaign(cluster: Cluster) -> AsyncIterator[Campaign]:
    """With 50 blocks a second, of users of all partitions in turn, until the end."""
    settings = load_settings(
        host="127.0.0.1", port=0, database_url=cluster.address, worker_poll_interval_ms=200
    )
    stack = Stack(settings, workers=1)
    home = Database(cluster.address, pool_size=2)
    await stack.start()
    try:
        async with client_of(stack) as client:
            campaign = Campaign(cluster, client, home)
            is_over = asyncio.Event()
            writing = asyncio.create_task(_write(campaign, is_over))
            try:
                yield campaign
            finally:
                is_over.set()
                await writing
            print(
                f"\n{await campaign.check()} accepted, refused and repeated"
                f" {dict(campaign.ledger.refused)}, slowest write"
                f" {max(campaign.ledger.slowest.values()):.2f} s"
            )
    finally:
        await stack.stop()
        await home.close()


async def _write(campaign: Campaign, is_over: asyncio.Event) -> None:
    users = [user for group in zip(*USERS, strict=True) for user in group]
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            user = users[number % len(users)]
            group.create_task(campaign.ledger.write(campaign.client, user, number))
            with suppress(TimeoutError):
                async with asyncio.timeout(1 / BLOCKS_PER_SECOND):
                    await is_over.wait()
                    return


async def test_a_move_and_a_killed_node_lose_nothing(cluster: Cluster) -> None:
    async with _campaign(cluster) as campaign:
        await campaign.grown(range(PARTITIONS))
        await campaign.moved(1)
        await campaign.killed_node(await campaign.node_of(1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_twelve_moves_and_three_killed_nodes_lose_and_double_nothing(
    cluster: Cluster,
) -> None:
    async with _campaign(cluster) as campaign:
        await campaign.grown(range(PARTITIONS))
        seconds = []
        for turn in range(12):
            number = MOVED[turn % len(MOVED)]
            if turn in {1, 6}:
                # The command is killed; Citus continues, and the repeated command finds out.
                before = await campaign.node_of(number)
                await campaign.move(number, is_killed=True)
                if await campaign.node_of(number) != before:
                    continue
            if turn == 8:
                await _kill_during_a_move(campaign, number)
            seconds.append(await campaign.moved(number))
            await campaign.grown([number])
            if turn in {3, 10}:
                await campaign.killed_node(await campaign.node_of(number))
        print(f"\nmoves took {', '.join(f'{one:.1f}' for one in seconds)} s")


async def _kill_during_a_move(campaign: Campaign, number: int) -> None:
    """The node that the partition is moved to."""
    target = await campaign.other_node(number)
    moving = asyncio.create_task(campaign.move(number))
    async with asyncio.timeout(WAIT_SECONDS):
        while not (moving.done() or await _is_moving(campaign)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await campaign.cluster.kill(target)
    try:
        await moving
    finally:
        await campaign.cluster.start(target)


async def _is_moving(campaign: Campaign) -> bool:
    connection = await asyncpg.connect(campaign.cluster.address)
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM get_rebalance_progress()"))
    finally:
        await connection.close()
