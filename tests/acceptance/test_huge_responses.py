"""A provider sends 200 MB; what that costs the worker's process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from tests.fakes import openai_server as fake
from tests.fakes.openai_server import FakeOpenAI
from tests.support.load import client_of
from tests.support.service import until_idle

from luma_memory.cli.processes import running_stack

# A process forked from one that has loaded the language data would not grow by it.
pytestmark = [pytest.mark.asyncio, pytest.mark.slow, pytest.mark.new_interpreters]

HUGE_BYTES = 200_000_000
GROWTH_BYTES_MAX = 100 * 2**20
BLOCKS = 12


@pytest.mark.parametrize("declared", [False, True])
async def test_the_workers_memory_stays_bounded(tmp_path: Path, declared: bool) -> None:
    with FakeOpenAI(dimension=64) as provider:
        async with (
            running_stack(
                data_dir=tmp_path / "data",
                workers=1,
                openai_base_url=provider.base_url,
                embedding_dimension=64,
            ) as stack,
            client_of(stack) as client,
        ):
            block = {"user_id": "ada", "content": "The kayak lies in the boathouse."}
            assert (await client.post("/blocks?wait=true", json=block)).status_code == 201
            (worker,) = (
                psutil.Process(child.pid)
                for name, child in stack.children.items()
                if name.startswith("worker")
            )
            before = most = worker.memory_info().rss
            provider.always(fake.huge(HUGE_BYTES, declared=declared))
            for number in range(BLOCKS):
                block = {"user_id": "ada", "content": f"The paddle number {number} is broken."}
                assert (await client.post("/blocks", json=block)).status_code == 202
            idle = asyncio.create_task(until_idle(client))
            while not idle.done():
                most = max(most, worker.memory_info().rss)
                await asyncio.sleep(0.01)
            await idle
            assert len(provider.calls) > BLOCKS
    print(f"worker: {before / 2**20:.0f} MiB, at most {(most - before) / 2**20:.0f} MiB more")
    assert most - before < GROWTH_BYTES_MAX
