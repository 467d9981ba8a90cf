"""The whole service behind PgBouncer in transaction mode, with few server connections."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from tests.support.pgbouncer import NOTHING, Pooler, needs_pgbouncer, running_pooler
from tests.support.postgres_majors import NEWEST
from tests.support.servers import Servers
from tests.support.service import BASE_PATH, all_blocks, until_idle

from luma_memory.cli.processes import API, Stack
from luma_memory.settings import load_settings

pytestmark = [needs_pgbouncer, pytest.mark.asyncio(loop_scope="module")]

CLIENTS = 8
BLOCKS_EACH = 40
SERVER_CONNECTIONS = 4
WORKER = "worker"
# The lease is 10 s longer.
JOB_TIMEOUT_MS = 5_000
CLAIMED = """
SELECT id, locked_until FROM memory_jobs
WHERE status = 'processing' AND locked_by IN (SELECT id FROM memory_workers WHERE process_id = $1)
"""


@dataclass
class Pooled:
    """A running service, the pooler it goes through, and the database's own address."""

    stack: Stack
    pooler: Pooler
    dsn: str
    lines: list[tuple[str, str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[Pooled]:
    lines: list[tuple[str, str]] = []
    async with (
        servers.fresh(NEWEST, template="template0") as dsn,
        running_pooler(dsn, pool_size=SERVER_CONNECTIONS) as pooler,
    ):
        settings = load_settings(
            database_url=pooler.address(dsn),
            host="127.0.0.1",
            port=0,
            worker_job_timeout_ms=JOB_TIMEOUT_MS,
        )
        stack = Stack(settings, on_line=lambda name, line: lines.append((name, line)))
        await stack.start()
        try:
            yield Pooled(stack, pooler, dsn, lines)
        finally:
            await stack.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def client(service: Pooled) -> AsyncIterator[httpx2.AsyncClient]:
    address = service.stack.base_url + BASE_PATH
    async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=30) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def direct(service: Pooled) -> AsyncIterator[asyncpg.Connection]:
    """Beside the pooler, to look with."""
    connection: asyncpg.Connection = await asyncpg.connect(service.dsn)
    yield connection
    await connection.close()


async def test_every_process_logs_the_limits_of_the_pooler_once(service: Pooled) -> None:
    processes = [name for name, line in service.lines if "transaction pooler" in line]
    assert sorted(processes) == [API, WORKER]


async def test_under_load_a_killed_workers_jobs_come_back_by_their_lease(
    service: Pooled, client: httpx2.AsyncClient, direct: asyncpg.Connection
) -> None:
    loads = [asyncio.create_task(_send(service, n)) for n in range(CLIENTS)]
    claimed = await _kill_at_work(service, direct)
    await service.stack.restart(WORKER)
    accepted = [block_id for ids in await asyncio.gather(*loads) for block_id in ids]
    stats = await until_idle(client)

    blocks = [block for n in range(CLIENTS) for block in await all_blocks(client, _user(n))]
    assert Counter(block["status"] for block in blocks) == {"active": CLIENTS * BLOCKS_EACH}
    assert sorted(block["id"] for block in blocks) == sorted(accepted)
    assert (stats["completed"], stats["failed"]) == (len(accepted), 0)
    for job_id, lease_end in claimed.items():
        row = await direct.fetchrow("SELECT * FROM memory_jobs WHERE id = $1", job_id)
        assert row is not None
        assert (row["status"], row["attempts"]) == ("completed", 2)
        assert row["started_at"] > lease_end


async def test_search_and_health_after_the_load(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        "/search", json={"user_id": _user(3), "query": "Who met at lighthouse 17?"}
    )
    assert response.json()["results"][0]["block"]["content"] == _content(3, 17)
    health = (await client.get("/health")).json()
    assert (health["status"], health["worker_running"]) == ("ok", True)


async def test_nothing_is_left_on_the_server(service: Pooled, direct: asyncpg.Connection) -> None:
    found = await service.pooler.left_behind(service.dsn, sessions=SERVER_CONNECTIONS)
    assert found == [NOTHING] * SERVER_CONNECTIONS
    keys = await direct.fetch("SELECT lock_key FROM memory_workers")
    assert [row["lock_key"] for row in keys] == [None] * len(keys)


async def _send(service: Pooled, number: int) -> list[str]:
    """One client's blocks, one after the other; the ids it was promised."""
    address = service.stack.base_url + BASE_PATH
    async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=30) as client:
        ids = []
        for n in range(BLOCKS_EACH):
            body = {"user_id": _user(number), "content": _content(number, n)}
            response = await client.post("/blocks", json=body)
            assert response.status_code == 202, response.text
            ids.append(response.json()["id"])
        return ids


def _user(number: int) -> str:
    return f"user-{number}"


def _content(number: int, n: int) -> str:
    return f"Person {number} met an old friend at lighthouse {n}."


async def _kill_at_work(service: Pooled, direct: asyncpg.Connection) -> dict[int, object]:
    """kill -9 while jobs are claimed; those jobs with the ends of their leases."""
    for _ in range(20):
        worker = service.stack.children[WORKER]
        async with asyncio.timeout(60):
            while not await direct.fetch(CLAIMED, worker.pid):
                pass
        worker.signal(signal.SIGKILL)
        await worker.wait()
        if claimed := await direct.fetch(CLAIMED, worker.pid):
            return {row["id"]: row["locked_until"] for row in claimed}
        await service.stack.restart(WORKER)
    raise AssertionError("the worker never held a job when it was killed")
