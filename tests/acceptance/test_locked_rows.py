"""One user's row is locked by a transaction that does not end; no other user is affected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain

import asyncpg
import httpx2
import pytest
from tests.support.service import all_blocks, until_idle

from luma_memory.cli.processes import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOCKED = "held"


@asynccontextmanager
async def locked(stack: Stack) -> AsyncIterator[None]:
    connection = await asyncpg.connect(stack.database_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM memory_users WHERE user_id = $1 FOR UPDATE", LOCKED
            )
            yield
    finally:
        await connection.close()


async def post(client: httpx2.AsyncClient, user_id: str, text: str) -> httpx2.Response:
    return await client.post("/blocks", json={"user_id": user_id, "content": text})


@pytest.mark.parametrize("rounds", [8, pytest.param(60, marks=pytest.mark.slow)])
async def test_others_are_accepted_and_enriched_while_a_users_row_is_locked(
    stack: Stack, client: httpx2.AsyncClient, rounds: int
) -> None:
    assert (await post(client, LOCKED, f"Before the lock of {rounds}.")).status_code == 202
    await until_idle(client)
    # Their jobs are there when the lock begins, and the write-backs meet it.
    waiting = [post(client, LOCKED, f"Waits for its job {n} of {rounds}.") for n in range(5)]
    assert {one.status_code for one in await asyncio.gather(*waiting)} == {202}
    async with locked(stack):
        locked_requests: list[asyncio.Task[httpx2.Response]] = []
        for number in range(rounds):
            locked_requests += [
                asyncio.create_task(post(client, LOCKED, f"Held {rounds} {number}."))
            ]
            others = [post(client, f"user-{n}", f"Free {rounds} {number}.") for n in range(12)]
            # All of them, before the lock ends; none receives a retryable error.
            responses = await asyncio.gather(*others)
            assert {response.status_code for response in responses} == {202}
        async with asyncio.timeout(60):
            while True:
                blocks = chain(*[await all_blocks(client, f"user-{n}") for n in range(12)])
                if {block["status"] for block in blocks} == {"active"}:
                    break
                await asyncio.sleep(0.1)
    outcomes = {(await one).status_code for one in locked_requests}
    assert outcomes <= {202, 503}
    assert (await post(client, LOCKED, f"After the lock of {rounds}.")).status_code == 202
    await until_idle(client)
    assert {block["status"] for block in await all_blocks(client, LOCKED)} == {"active"}
