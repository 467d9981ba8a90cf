"""A cached context is never stale, whatever changes concurrently."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.redis_server import RedisServer
from tests.support.running import working

from luma_memory.postgres.database import Database

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seconds", [6, pytest.param(180, marks=pytest.mark.slow)])
async def test_random_writers_and_askers_in_several_processes(
    dsn: str, database: Database, redis_server: RedisServer, seconds: int
) -> None:
    """A worker enriches all the while: its write-backs change answers, too."""
    async with working(database):
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.support.never_stale",
                *(dsn, redis_server.url, str(seed), str(seconds)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            for seed in range(3)
        ]
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
    shown = "\n".join(output.decode() for output, _ in outputs)
    assert [process.returncode for process in processes] == [0, 0, 0], shown
