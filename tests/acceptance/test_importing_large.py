"""A large export: bounded memory, and each message once however often the import is killed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
from tests.support.commands import COMMAND, clean_environment
from tests.support.exports import chatgpt_conversation, chatgpt_node
from tests.support.partitions import connected_to

from luma_memory.cli.processes import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES = 20
MB = 1 << 20
GROWTH_BYTES_MAX = 100 * MB
# Most of an export of years is other branches, hidden messages and pictures: what is stored of the
# large one stays small enough for a test, and every byte of it is read.
PADDING = "x" * 1_000


def _conversation(number: int, size_bytes: int) -> str:
    nodes, parent = [], "root"
    for turn in range(MESSAGES):
        role = "user" if turn % 2 == 0 else "assistant"
        node_id = f"m-{number}-{turn}"
        nodes.append(
            chatgpt_node(node_id, parent, role=role, text=f"Plank {number}, day {turn}. 🪵")
        )
        parent = node_id
    made = chatgpt_conversation(*nodes, current=parent, id=f"c-{number}")
    made["padding"] = [PADDING] * (size_bytes // len(PADDING))
    return json.dumps(made, ensure_ascii=False)


def _write(path: Path, *, conversations: int, size_bytes: int) -> None:
    def pieces() -> Iterator[str]:
        yield "["
        for number in range(conversations):
            yield ("," if number else "") + _conversation(number, size_bytes // conversations)
        yield "]"

    with path.open("w", encoding="utf-8") as file:
        for piece in pieces():
            file.write(piece)


@pytest.mark.parametrize(
    ("conversations", "size_bytes", "kills"),
    [(150, 30 * MB, 2), pytest.param(5_000, 1_000 * MB, 10, marks=pytest.mark.slow)],
)
async def test_a_large_export_needs_little_memory_and_survives_kills(
    stack: Stack, tmp_path: Path, conversations: int, size_bytes: int, kills: int
) -> None:
    path = tmp_path / "conversations.json"
    await asyncio.to_thread(_write, path, conversations=conversations, size_bytes=size_bytes)
    user = f"large-{conversations}"
    # One conversation loads the same code.
    small = tmp_path / "small.json"
    await asyncio.to_thread(_write, small, conversations=1, size_bytes=1_000)
    least = await _peak(await _started(small, f"small-{conversations}", stack, tmp_path))
    chance = random.Random(20_261_130)
    goals = sorted(chance.randrange(conversations * MESSAGES) for _ in range(kills))
    connection = await connected_to(stack.database_url, user)
    try:
        for goal in goals:
            process = await _started(path, user, stack, tmp_path)
            while (  # noqa: ASYNC110 - another process stores them
                process.returncode is None and await _stored(connection, user) < goal
            ):
                await asyncio.sleep(0.05)
            if process.returncode is None:
                process.kill()
            await process.wait()
        process = await _started(path, user, stack, tmp_path)
        growth = await _peak(process) - least
        print(f"measured: memory growth of the import = {growth / MB:.0f} MB")
        assert growth < GROWTH_BYTES_MAX
        assert await _stored(connection, user) == conversations * MESSAGES
        distinct = await connection.fetchval(
            "SELECT count(DISTINCT external_id) FROM memory_blocks WHERE user_id = $1", user
        )
        assert distinct == conversations * MESSAGES
        await connection.execute("DELETE FROM memory_jobs WHERE user_id = $1", user)
    finally:
        await connection.close()


async def _started(path: Path, user: str, stack: Stack, folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *("import", str(path), "--user", user, "--url", stack.base_url),
        cwd=folder,
        env=clean_environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _peak(process: asyncio.subprocess.Process) -> int:
    """The most resident memory that it had, looked at ten times a second."""
    watched, most = psutil.Process(process.pid), 0
    while process.returncode is None:
        with suppress(psutil.NoSuchProcess):
            most = max(most, watched.memory_info().rss)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await process.wait()
    assert process.returncode == 0
    return most


async def _stored(connection: asyncpg.Connection, user: str) -> int:
    count: int = await connection.fetchval(
        "SELECT count(*) FROM memory_blocks WHERE user_id = $1", user
    )
    return count
