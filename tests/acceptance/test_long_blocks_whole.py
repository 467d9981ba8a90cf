"""Ten of the longest blocks at once, with default settings, beside other work on every core."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from tests.support.load import client_of

from luma_memory.cli.processes import running_stack

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

CHARACTERS = 100_000
BLOCKS = 10
BURN = "import os\nwhile os.getppid() == {parent}: sum(range(10_000))"


def log(number: int) -> str:
    line = "2026-03-11 10:{m:02}:07 WARN worker-{n} E{n}42 took {n} ms path=/v1/items/{n}"
    lines = (line.format(m=n % 60, n=n + number) for n in range(CHARACTERS // 60))
    return "\n".join(lines)[:CHARACTERS]


def chinese(number: int) -> str:
    sentence = "第{n}天我们在北京的老城区散步，看见了许多古老的院子和新开的书店。"
    return "".join(sentence.format(n=n + number) for n in range(CHARACTERS // 28))[:CHARACTERS]


def objects(number: int) -> str:
    rows = [
        {"id": n + number, "sku": f"A-{n}-{number}", "price": n / 7, "tags": ["new", f"t{n}"]}
        for n in range(CHARACTERS // 60)
    ]
    return json.dumps(rows)[:CHARACTERS]


@contextmanager
def busy_cores() -> Iterator[None]:
    count = psutil.cpu_count() or 1
    code = BURN.format(parent=psutil.Process().pid)
    burning = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


async def test_all_become_active_without_a_failed_job(tmp_path: Path) -> None:
    kinds = (log, chinese, objects)
    async with running_stack(data_dir=tmp_path / "data") as stack, client_of(stack) as client:
        with busy_cores():
            for number in range(BLOCKS):
                text = kinds[number % len(kinds)](number)
                assert len(text) == CHARACTERS
                response = await client.post(
                    "/blocks", json={"user_id": f"user-{number}", "content": text}, timeout=120
                )
                assert response.status_code == 202, response.text
            connection = await asyncpg.connect(stack.database_url)
            try:
                async with asyncio.timeout(1_800):
                    while await connection.fetchval(  # noqa: ASYNC110 - rows of another
                        "SELECT count(*) FROM memory_jobs WHERE status IN ('pending', 'processing')"
                    ):
                        await asyncio.sleep(1)
                jobs = await connection.fetch(
                    "SELECT * FROM memory_jobs WHERE status <> 'completed'"
                )
                blocks = await connection.fetch("SELECT status, error FROM memory_blocks")
                bare = await connection.fetchval(
                    "SELECT count(*) FROM memory_passages WHERE embedding IS NULL"
                )
            finally:
                await connection.close()
    assert [dict(job) for job in jobs] == []
    assert [tuple(block) for block in blocks] == [("active", None)] * BLOCKS
    assert bare == 0
