"""`luma-memory top`: what a running service is doing, and what it says while there is none."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal

import httpx2
import pytest
from tests.support.commands import COMMAND, clean_environment
from tests.support.redis_server import free_port

from luma_memory.cli.processes import Stack

RETRY_SECONDS = 60.0
module = pytest.mark.asyncio(loop_scope="module")


@module
async def test_once_shows_queue_workers_cache_and_latencies(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    command = [*COMMAND, "top", "--once", "--url", stack.base_url]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env=clean_environment()
    )
    # Meanwhile there is something to see.
    while process.returncode is None:
        block = {"user_id": "top", "content": "Ada lives in Lisbon."}
        (await client.post("/blocks", json=block)).raise_for_status()
        await asyncio.sleep(0.02)
    assert process.stdout is not None
    shown = (await process.stdout.read()).decode()
    assert process.returncode == 0
    for part in ("queue", "workers", "cache", "completed", "hit rate", "database ok"):
        assert part in shown
    row = re.search(r"POST /blocks +([\d.]+) +([\d.]+) ms +([\d.]+) ms", shown)
    assert row is not None, shown
    assert float(row.group(1)) > 1


@module
async def test_once_reports_an_unreachable_service_in_one_sentence() -> None:
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "top", "--once", "--url", f"http://127.0.0.1:{free_port()}"),
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    _, output = await process.communicate()
    assert process.returncode == 1
    assert b"No service is listening at" in output


@module
async def test_live_waits_for_a_service_and_ends_with_ctrl_c(stack: Stack) -> None:
    shown = await in_a_terminal("top", "--url", f"http://127.0.0.1:{free_port()}", until="retrying")
    assert "No service is listening at" in re.sub(r"\s+", " ", shown)
    assert "hit rate" in await in_a_terminal("top", "--url", stack.base_url, until="hit rate")


async def in_a_terminal(*arguments: str, until: str) -> str:
    """What the command shows until then; Ctrl-C ends it, and leaves the terminal as it was."""
    ours, theirs = pty.openpty()
    environment = clean_environment(TERM="xterm", COLUMNS="140", LINES="40")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = ""
    try:
        async with asyncio.timeout(RETRY_SECONDS):
            while until not in shown:
                read = await asyncio.to_thread(os.read, ours, 65_536)
                shown += read.decode(errors="replace")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(RETRY_SECONDS):
            assert await process.wait() == 130
    finally:
        os.close(ours)
    return shown
