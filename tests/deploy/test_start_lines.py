"""The start lines of Procfile and Railway, by their own text: run as their platforms run them.

In a shell, with the platform's PORT and the settings in the environment. Addresses for all networks
are those of loopback here: tests listen nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.commands import clean_environment
from tests.support.redis_server import free_port

from luma_memory.cli.child import Child

ROOT = Path(__file__).resolve().parents[2]
ADMIN_KEY = "a-key-of-the-test-0123456789"
READY_SECONDS = 60.0
ANYWHERE = {"--host 0.0.0.0": "--host 127.0.0.1", "--host ::": "--host ::1"}
HEALTH = "/api/v1/memory/health/ready"


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines)


def railway(part: str) -> dict[str, Any]:
    path = ROOT / "deploy" / "railway" / f"luma-memory-{part}.json"
    deploy: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["deploy"]
    return deploy


def on_loopback(line: str) -> str:
    (anywhere,) = [address for address in ANYWHERE if f"{address} " in line]
    return line.replace(anywhere, ANYWHERE[anywhere])


class Platform:
    """A host's environment, and the processes it has started."""

    def __init__(self, dsn: str) -> None:
        # The command is found as in the image: by the path.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = clean_environment(
            PATH=path,
            DATABASE_URL=dsn,
            MEMORY_ADMIN_KEY=ADMIN_KEY,
            MEMORY_EMBEDDING_ENABLED="false",
        )
        self.output: list[str] = []

    async def release(self, line: str) -> None:
        """Run to the end before anything else."""
        process = await asyncio.create_subprocess_shell(line, env=self._environment)
        assert await process.wait() == 0

    @asynccontextmanager
    async def started(self, name: str, line: str, **variables: str) -> AsyncIterator[Child]:
        """Run until the block ends; SIGTERM must end it with 0, as its last process hears it."""
        child = await Child.start(
            name,
            ["sh", "-c", f"exec {line}"],
            {**self._environment, **variables},
            lambda _, line: self.output.append(f"{name} {line}"),
        )
        try:
            yield child
        finally:
            code = await child.stop(grace_seconds=20)
        assert code == 0, child.last_lines

    async def until_responding(self, url: str) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    with suppress(httpx2.TransportError):
                        if (await client.get(url)).is_success:
                            return
                    await asyncio.sleep(0.05)

    async def until_logged(self, text: str) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while not any(text in line for line in self.output):  # noqa: ASYNC110 - a log
                await asyncio.sleep(0.02)


PROCFILE = procfile()
RAILWAY = {part: railway(part) for part in ("api", "worker")}


@pytest.mark.parametrize(
    ("releases", "api", "host", "worker"),
    [
        (
            [line for part in RAILWAY.values() for line in part["preDeployCommand"]],
            *(RAILWAY["api"]["startCommand"], "[::1]"),
            RAILWAY["worker"]["startCommand"],
        ),
        pytest.param(
            [PROCFILE["release"]],
            *(PROCFILE["web"], "127.0.0.1", PROCFILE["worker"]),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["Railway", "Procfile"],
)
async def test_the_lines_start_what_they_say(
    releases: Sequence[str], api: str, host: str, worker: str, empty_dsn: str
) -> None:
    platform = Platform(empty_dsn)
    for line in releases:
        await platform.release(line)
    port = str(free_port())
    async with AsyncExitStack() as running:
        start = running.enter_async_context
        await start(platform.started("api", on_loopback(api), PORT=port))
        await start(platform.started("worker", worker))
        await platform.until_responding(f"http://{host}:{port}{HEALTH}")
        await platform.until_logged("Memory Worker Starting")
    assert any("Memory Worker Stopped" in line for line in platform.output), platform.output


def test_they_say_alike_what_to_run_and_what_to_ask() -> None:
    assert RAILWAY["api"]["preDeployCommand"] == [PROCFILE["release"]]
    assert RAILWAY["worker"]["startCommand"] == PROCFILE["worker"]
    assert RAILWAY["worker"]["preDeployCommand"] == [f"{PROCFILE['release']} --check --wait 600"]
    assert RAILWAY["api"]["healthcheckPath"] == HEALTH
    assert "0.0.0.0" not in on_loopback(PROCFILE["web"])
