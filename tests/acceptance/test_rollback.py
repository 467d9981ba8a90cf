"""Back to synchronous ingest and forward again under 20 blocks a second, as docs/rollback.md says.

The senders keep a ledger: every block with a 202 or 201 response. In the end each of them exists
once, is active, and was enriched once.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest
from tests.support.commands import COMMAND, clean_environment
from tests.support.load import Ledger, assert_promises_kept, client_of, load, until_settled
from tests.support.repeated_work import enriched_more_than_once

from luma_memory.cli.processes import API, STOP_GRACE_SECONDS, Stack, running_stack

PAGE = Path(__file__).parents[2] / "docs" / "rollback.md"
SENDERS = 4
PACE_SECONDS = 0.2  # each; 20 blocks a second together
CLEAR = "DELETE FROM memory_jobs WHERE status = 'pending'"


async def switch_workers(stack: Stack, *, on: bool) -> None:
    """Step 1 of both ways: the API is started anew with the setting."""
    stack.settings = stack.settings.model_copy(update={"worker_enabled": on})
    await stack.restart(API)
    await stack.ready()


async def jobs_enqueue(stack: Stack) -> int:
    """How many jobs the command made."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("jobs", "enqueue", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(DATABASE_URL=stack.database_url),
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors
    found = re.search(rb'"enqueued": (\d+)', output)
    assert found is not None
    return int(found.group(1))


@pytest.mark.parametrize(
    ("rounds", "blocks"),
    [(1, 10), pytest.param(5, 300, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)])],
)
async def test_back_and_forward_again_lose_and_double_nothing(
    rounds: int, blocks: int, tmp_path: Path
) -> None:
    ledger = Ledger("rollback")
    cleared = found_again = 0
    async with (
        running_stack(data_dir=tmp_path / "data", embedding_enabled=rounds > 1) as stack,
        client_of(stack) as client,
    ):
        table = await asyncpg.connect(stack.database_url)
        async with load(stack, ledger, senders=SENDERS, pace_seconds=PACE_SECONDS):
            for _ in range(rounds):
                await ledger.grow_by(blocks)
                worker = stack.children.pop("worker")  # or its end would be taken for a death
                await worker.stop(grace_seconds=STOP_GRACE_SECONDS)
                await ledger.grow_by(blocks)  # these wait: no worker is running
                await switch_workers(stack, on=False)
                cleared += int((await table.execute(CLEAR)).split()[-1])
                await ledger.grow_by(blocks)  # enriched before the response
                await switch_workers(stack, on=True)
                stack.children["worker"] = worker
                await stack.restart("worker")
                found_again += await jobs_enqueue(stack)
                await ledger.grow_by(blocks)
        await until_settled(client)
        # What was accepted between the command's look and the end has its own job.
        assert await jobs_enqueue(stack) == 0
        await assert_promises_kept(client, ledger)
        assert found_again >= cleared >= rounds * blocks
        assert await enriched_more_than_once(stack.database_url) == []
        assert (await client.get("/jobs/stats")).json()["failed"] == 0
        await table.close()
    print(f"measured: {len(ledger.accepted)} blocks, {cleared} jobs cleared, {found_again} found")


def test_the_page_describes_the_tested_steps() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"{CLEAR};" in page
    assert "luma-memory jobs enqueue" in page
