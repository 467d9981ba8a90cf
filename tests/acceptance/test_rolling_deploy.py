"""The previous version keeps serving during a migration, and beside the new version.

old API and worker → migration under load → new API and worker beside them → the old ones stop.
No request may fail meanwhile, no block may be lost or enriched twice.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest
from pydantic import SecretStr
from tests.support.load import Ledger, assert_promises_kept, until_settled
from tests.support.partitions import chosen_partitions, fetch_everywhere
from tests.support.readiness import until_ready
from tests.support.redis_server import free_port
from tests.support.repeated_work import enriched_more_than_once
from tests.support.service import BASE_PATH
from tests.support.versions import process_of, run_of, version_before_the_newest_migration

from luma_memory.cli.child import Child
from luma_memory.cli.processes import STOP_GRACE_SECONDS
from luma_memory.cli.servers import API_MODULE, WORKER_MODULE
from luma_memory.postgres.migrator import migration_names

Process: TypeAlias = AbstractAsyncContextManager[Child]
SENDERS = 4
PACE_SECONDS = 0.2  # each; 20 blocks a second together
SHORT = 6


class LoadBalancer:
    """Sends requests to the open ports in turn, and counts the statuses of their responses."""

    def __init__(self) -> None:
        self.open: list[int] = []
        self.statuses: Counter[int] = Counter()
        self.slowest_ms = 0.0
        self._turn = itertools.count()

    def url(self) -> str:
        port = self.open[next(self._turn) % len(self.open)]
        return f"http://127.0.0.1:{port}{BASE_PATH}"

    async def request(
        self, client: httpx2.AsyncClient, method: str, path: str, **options: Any
    ) -> httpx2.Response:
        started = time.perf_counter()
        response = await client.request(method, self.url() + path, **options)
        self.slowest_ms = max(self.slowest_ms, (time.perf_counter() - started) * 1_000)
        self.statuses[response.status_code] += 1
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response


async def send(balancer: LoadBalancer, sender: int, ledger: Ledger, stop: asyncio.Event) -> None:
    """A block, then a read, a search or a context of the same user. Any failure is raised."""
    number = 0
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        while not stop.is_set():
            key = f"{sender}-{number}"
            user = ledger.users[number % len(ledger.users)]
            block = {"user_id": user, "content": f"Number {key} met at the old lighthouse."}
            headers = {"Idempotency-Key": key}
            response = await balancer.request(
                client, "POST", "/blocks", json=block, headers=headers
            )
            await ledger.enter(key, str(response.json()["id"]))
            question = {"user_id": user, "query": f"Who met at the lighthouse? {number % 3}"}
            match number % 3:
                case 0:
                    await balancer.request(client, "POST", "/search", json=question)
                case 1:
                    await balancer.request(client, "POST", "/context", json=question)
                case _:
                    await balancer.request(client, "GET", "/blocks", params={"user_id": user})
            number += 1
            await asyncio.sleep(PACE_SECONDS)


@asynccontextmanager
async def traffic(
    balancer: LoadBalancer, ledger: Ledger
) -> AsyncIterator[list[asyncio.Task[None]]]:
    stop = asyncio.Event()
    senders = [asyncio.create_task(send(balancer, n, ledger, stop)) for n in range(SENDERS)]
    try:
        yield senders
    finally:
        stop.set()
        await asyncio.gather(*senders)


@pytest.mark.parametrize("blocks", [SHORT, pytest.param(300, marks=pytest.mark.slow)])
async def test_the_version_before_serves_through_the_migration_and_beside_the_new_one(
    blocks: int, empty_dsn: str, tmp_path: Path
) -> None:
    old = version_before_the_newest_migration(tmp_path)
    output: list[tuple[str, str]] = []
    balancer, ledger = LoadBalancer(), Ledger("deploy")
    old_port, new_port = free_port(), free_port()
    url = SecretStr(empty_dsn)

    def sink(name: str, line: str) -> None:
        output.append((name, line))

    def process(source: Path | None, module: str, name: str, port: int = 0) -> Process:
        return process_of(
            source,
            module,
            name=name,
            sink=sink,
            database_url=url,
            port=port,
            embedding_enabled=blocks > SHORT,  # loading the model is half of a short test
        )

    await run_of(old, "migrate", DATABASE_URL=empty_dsn)
    if chosen_partitions() > 1:
        count = str(chosen_partitions())
        await run_of(old, "partitions", "create", "--count", count, DATABASE_URL=empty_dsn)
    assert migration_names()[-1] not in await applied(empty_dsn)
    async with AsyncExitStack() as running:
        start = running.enter_async_context
        old_api = await start(process(old, API_MODULE, "old api", old_port))
        old_worker = await start(process(old, WORKER_MODULE, "old worker"))
        await until_ready(old_port, output)
        balancer.open = [old_port]
        async with traffic(balancer, ledger):
            await ledger.grow_by(blocks)
            began = time.monotonic()
            await run_of(None, "migrate", DATABASE_URL=empty_dsn)
            migrated_seconds = time.monotonic() - began
            assert Counter(await applied(empty_dsn)) == Counter(
                migration_names() * chosen_partitions()
            )
            await ledger.grow_by(blocks)
            await start(process(None, API_MODULE, "new api", new_port))
            await start(process(None, WORKER_MODULE, "new worker"))
            await until_ready(new_port, output)
            balancer.open = [old_port, new_port]
            await ledger.grow_by(blocks)
            balancer.open = [new_port]
            # The old API completes its open requests before it stops.
            assert await old_api.stop(grace_seconds=STOP_GRACE_SECONDS) == 0
            assert await old_worker.stop(grace_seconds=STOP_GRACE_SECONDS) == 0
            await ledger.grow_by(blocks)
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{new_port}{BASE_PATH}", trust_env=False, timeout=30
        ) as client:
            await until_settled(client)
            await assert_promises_kept(client, ledger)
            assert (await client.get("/jobs/stats")).json()["failed"] == 0
        assert await enriched_more_than_once(empty_dsn) == []
    assert set(balancer.statuses) <= {200, 202}
    bad = [line for line in output if "error" in line[1].lower() or "failed" in line[1].lower()]
    assert [line for line in bad if "failed=0" not in line[1]] == []
    print(
        f"measured: {sum(balancer.statuses.values())} requests,"
        f" slowest {balancer.slowest_ms:.0f} ms; migration {migrated_seconds:.1f} s"
    )


async def applied(dsn: str) -> list[str]:
    rows = await fetch_everywhere(dsn, "SELECT version FROM memory_migrations")
    return [row["version"] for row in rows]
