"""`serve` with several API processes on one port: one set of figures, restarts, an orderly end."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import psutil
from pydantic import SecretStr
from tests.support.redis_server import free_port
from tests.support.service import BASE_PATH
from tests.support.versions import process_of

from luma_memory.cli.child import Child
from luma_memory.cli.servers import API_MODULE

RETRY_SECONDS = 120.0
PROCESSES = 2


@dataclass
class Served:
    child: Child
    port: int
    output: list[str] = field(default_factory=list)

    def running_api(self) -> list[psutil.Process]:
        return psutil.Process(self.child.pid).children()

    async def get(self, path: str) -> httpx2.Response:
        """Over a connection of its own, so that any process may get it."""
        url = f"http://127.0.0.1:{self.port}{BASE_PATH}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
            return await client.get(path)

    async def until_started(self, *, without: int | None = None) -> list[int]:
        """Wait for all processes, each of which says that it listens; their ids."""
        async with asyncio.timeout(RETRY_SECONDS):
            while True:
                ids = [process.pid for process in self.running_api()]
                output = sum("Listening on" in line for line in self.output)
                if len(ids) == PROCESSES and without not in ids and output >= self._expected():
                    return ids
                await asyncio.sleep(0.05)

    def _expected(self) -> int:
        return PROCESSES + sum("restarting it" in line for line in self.output)


@asynccontextmanager
async def served(dsn: str) -> AsyncIterator[Served]:
    port, output = free_port(), list[str]()
    process = process_of(
        *(None, API_MODULE),
        name="api",
        sink=lambda _name, line: output.append(line),
        database_url=SecretStr(dsn),
        host="127.0.0.1",
        port=port,
        embedding_enabled=False,
        api_processes=PROCESSES,
    )
    async with process as child:
        yield Served(child, port, output)


async def _requests(served: Served, path: str) -> float:
    text = (await served.get("/metrics")).text
    route = f'route="[^"]*{path}"'
    counts = re.findall(rf"^luma_request_seconds_count{{[^}}]*{route}[^}}]*}} (\S+)", text, re.M)
    return sum(map(float, counts))


async def test_processes_share_a_port_and_their_sums_until_all_stop_with_the_first(
    dsn: str,
) -> None:
    async with served(dsn) as running:
        first, second = await running.until_started()
        for _ in range(20):
            assert (await running.get("/blocks?user_id=ada")).status_code == 200
        # Whichever process responds; it counts a request after its response has left.
        async with asyncio.timeout(RETRY_SECONDS):
            while await _requests(running, "/blocks") < 20.0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert [await _requests(running, "/blocks") for _ in range(4)] == [20.0] * 4
        metrics = (await running.get("/metrics")).text
        assert len(re.findall(r"^luma_database_up ", metrics, re.M)) == 1
        assert len(re.findall(r"^luma_snapshots ", metrics, re.M)) == 1

        # A killed one is restarted, and its counts stay.
        psutil.Process(first).kill()
        after = await running.until_started(without=first)
        assert second in after
        assert await _requests(running, "/blocks") == 20.0
        for _ in range(10):
            assert (await running.get("/blocks?user_id=ada")).status_code == 200
        async with asyncio.timeout(RETRY_SECONDS):
            while await _requests(running, "/blocks") < 30.0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await _requests(running, "/blocks") == 30.0

        running_api = running.running_api()
        psutil.Process(running.child.pid).send_signal(signal.SIGTERM)
        assert await running.child.wait() == 0
        assert not any(process.is_running() for process in running_api)


async def test_no_process_outlives_a_killed_supervisor(dsn: str) -> None:
    async with served(dsn) as running:
        await running.until_started()
        running_api = running.running_api()
        psutil.Process(running.child.pid).kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, running_api, RETRY_SECONDS)
        assert alive == []


async def test_a_process_that_cannot_start_ends_all(empty_dsn: str) -> None:
    async with served(empty_dsn) as running:
        assert await asyncio.wait_for(running.child.wait(), RETRY_SECONDS) == 1
        assert any("luma-memory serve:" in line for line in running.output)
