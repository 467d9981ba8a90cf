"""docs/troubleshooting.md, verified by causing each problem: its symptom, diagnosis and fix.

The page's own statements and commands are run.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from tests.fakes.openai_server import FakeOpenAI, hang, out_of_money, rate_limited
from tests.support.commands import run
from tests.support.load import client_of
from tests.support.redis_server import RedisServer, running_redis, skip_without_redis
from tests.support.service import until_idle

from luma_memory.cli.processes import STOP_GRACE_SECONDS, Stack, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
RETRY_SECONDS = 60.0


@dataclass
class Service:
    """What is broken here: a stack with a provider and a Redis of its own."""

    stack: Stack
    provider: FakeOpenAI
    redis: RedisServer
    lines: list[tuple[str, str]] = field(default_factory=list)

    def has_logged(self, name: str, text: str) -> bool:
        return any(who == name and text in line for who, line in self.lines)

    async def command(self, line: str) -> subprocess.CompletedProcess[str]:
        """A command of the page, with the settings of this service."""
        return await asyncio.to_thread(
            run,
            *shlex.split(line)[1:],
            DATABASE_URL=self.stack.database_url,
            REDIS_URL=self.redis.url,
            OPENAI_BASE_URL=self.provider.base_url,
            MEMORY_PORT=str(self.stack.port),
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    skip_without_redis()
    lines: list[tuple[str, str]] = []
    with FakeOpenAI(dimension=1_536) as provider:
        async with (
            running_redis() as redis,
            running_stack(
                data_dir=tmp_path_factory.mktemp("troubles") / "data",
                on_line=lambda name, line: lines.append((name, line)),
                openai_base_url=provider.base_url,
                redis_url=redis.url,
                fail_fast=True,
                provider_timeout_ms=2_000,
            ) as stack,
        ):
            async with client_of(stack) as client:
                await until_worker(client)
            yield Service(stack, provider, redis, lines)


@pytest_asyncio.fixture(loop_scope="module")
async def client(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(service.stack) as opened:
        yield opened


def section(title: str) -> str:
    """The part of the page under this heading."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page has no section {title!r}"
    return found.group(1)


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


def commands(title: str) -> list[str]:
    """The luma-memory commands of a section."""
    shown = re.findall(r"^\$ (luma-memory .*?)(?:\s+#.*)?$", section(title), re.MULTILINE)
    assert shown
    return shown


async def ask(service: Service, title: str) -> list[list[Any]]:
    """The rows of the section's statements."""
    connection = await asyncpg.connect(service.stack.database_url)
    try:
        return [await connection.fetch(sql) for sql in blocks(title, "sql")]
    finally:
        await connection.close()


async def send(client: httpx2.AsyncClient, content: str) -> str:
    response = await client.post("/blocks", json={"user_id": "ada", "content": content})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def until_status(client: httpx2.AsyncClient, block_id: str, status: str) -> None:
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            response = await client.get(f"/blocks/{block_id}", params={"user_id": "ada"})
            if response.json()["status"] == status:
                return
            await asyncio.sleep(0.05)


async def until_stats(client: httpx2.AsyncClient, **expected: int) -> None:
    async with asyncio.timeout(RETRY_SECONDS):
        while True:
            stats = (await client.get("/jobs/stats")).json()
            if expected.items() <= stats.items():
                return
            await asyncio.sleep(0.05)


async def enrichment_of(client: httpx2.AsyncClient, block_id: str) -> str:
    response = await client.get(f"/blocks/{block_id}", params={"user_id": "ada"})
    return str(response.json()["enrichment"])


async def ask_until(service: Service, client: httpx2.AsyncClient, line: str) -> None:
    """Send new questions until the API logs the line; every response must succeed."""
    async with asyncio.timeout(RETRY_SECONDS):
        number = 0
        while not service.has_logged("api", line):
            question = {"user_id": "ada", "query": f"{line}? {number}", "synthesize": False}
            assert (await client.post("/context", json=question)).status_code == 200
            number += 1


async def until_worker(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(RETRY_SECONDS):
        while not (await client.get("/health")).json()["worker_running"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def stop_worker(service: Service) -> None:
    worker = service.stack.children["worker"]
    await worker.stop(grace_seconds=STOP_GRACE_SECONDS)


async def test_the_worker_does_not_process(service: Service, client: httpx2.AsyncClient) -> None:
    title = "The worker does not process"
    await stop_worker(service)
    block_id = await send(client, "Ada waits.")
    health = (await client.get("/health")).json()
    assert (health["worker_running"], health["workers"]) == (False, 0)
    assert health["queue_stats"]["pending"] == 1
    for line in commands(title):
        shown = await service.command(line)
        assert shown.returncode == 0, shown.stderr
    (workers,) = await ask(service, title)
    assert workers[0]["stopped_at"] is not None
    advice = await service.command("luma-memory doctor")
    assert "run luma-memory worker" in re.sub(r"\s+", " ", advice.stdout)
    await service.stack.restart("worker")
    await until_status(client, block_id, "active")


async def test_a_disabled_worker_logs_it(service: Service) -> None:
    ended = await asyncio.to_thread(
        run, "worker", DATABASE_URL=service.stack.database_url, MEMORY_WORKER_ENABLED="false"
    )
    assert ended.returncode == 0
    assert "MEMORY_WORKER_ENABLED is false" in ended.stderr + ended.stdout


async def test_a_provider_that_limits_has_jobs_wait(
    service: Service, client: httpx2.AsyncClient
) -> None:
    service.provider.always(rate_limited(seconds=600))
    block_id = await send(client, "Ada is one of too many.")
    await until_stats(client, deferred=1)
    assert "`luma-memory jobs list --status pending`" in section("The worker does not process")
    shown = await service.command("luma-memory jobs list --status pending --json")
    (job,) = json.loads(shown.stdout)["jobs"]
    assert (job["block_id"], job["attempts"]) == (block_id, 0)
    assert datetime.fromisoformat(job["run_at"]) > datetime.now(UTC) + timedelta(minutes=5)
    assert service.has_logged("worker", "deferred")
    service.provider.always(None)
    connection = await asyncpg.connect(service.stack.database_url)
    states = [row["state"] for row in await connection.fetch("SELECT * FROM memory_circuits")]
    assert "limited" in states
    # The ten minutes are over.
    await connection.execute("DELETE FROM memory_circuits")
    await connection.execute("UPDATE memory_jobs SET run_at = now() WHERE status = 'pending'")
    await connection.close()
    await until_status(client, block_id, "active")


async def test_a_provider_that_hangs_is_seen_in_its_circuit(
    service: Service, client: httpx2.AsyncClient
) -> None:
    service.provider.always(hang())
    block_id = await send(client, "Ada waits for an answer.")
    await until_stats(client, processing=1)
    statement = "SELECT * FROM memory_circuits"
    assert f"`{statement}`" in section("The worker does not process")
    connection = await asyncpg.connect(service.stack.database_url)
    async with asyncio.timeout(RETRY_SECONDS):
        while not any(row["failures"] for row in await connection.fetch(statement)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await connection.close()
    service.provider.always(None)
    await until_status(client, block_id, "active")


async def test_a_process_that_does_not_start_reports_the_reason(
    service: Service, tmp_path: Path
) -> None:
    title = "A process does not start"
    doctor, check = commands(title)
    url = service.stack.database_url

    async def output_of(*arguments: str, **environment: str) -> str:
        ended = await asyncio.to_thread(lambda: run(*arguments, **environment))  # type: ignore[arg-type]
        assert ended.returncode == 1, ended
        return re.sub(r"\s+", " ", ended.stdout + ended.stderr)

    nowhere = f"postgresql:///memory?host={tmp_path}"
    waited = await output_of("worker", DATABASE_URL=nowhere, MEMORY_DATABASE_WAIT_SECONDS="1")
    assert "waiting up to 1 s for it" in waited
    assert "PostgreSQL does not respond" in await output_of("doctor", DATABASE_URL=nowhere)

    admin = await asyncpg.connect(url)
    await admin.execute("CREATE DATABASE without_schema")
    await admin.close()
    other = url.replace("/luma_memory?", "/without_schema?")
    for name in ("serve", "worker"):
        assert "does not have this version's schema" in await output_of(name, DATABASE_URL=other)
    words = shlex.split(check)[1:]
    assert "run `luma-memory migrate`" in await output_of(*words, DATABASE_URL=other)
    assert "run luma-memory migrate" in await output_of(
        *shlex.split(doctor)[1:], DATABASE_URL=other
    )
    assert run("migrate", DATABASE_URL=other).returncode == 0
    assert run(*words, DATABASE_URL=other).returncode == 0

    missing = url.replace("/luma_memory?", "/nobodys?")
    assert "PostgreSQL refuses" in await output_of("worker", DATABASE_URL=missing)
    assert "MEMORY_PORT is wrong: it must be" in await output_of("serve", MEMORY_PORT="many")


async def test_many_jobs_fail(service: Service, client: httpx2.AsyncClient) -> None:
    title = "Many jobs fail"
    service.provider.always(out_of_money())
    block_id = await send(client, "Ada cannot pay.")
    await until_status(client, block_id, "failed")
    assert service.has_logged("worker", "❌ Job failed")
    listing, retry = commands(title)
    shown = await service.command(f"{listing} --json")
    (job,) = json.loads(shown.stdout)["jobs"]
    assert job["error_class"] == "provider_permanent"
    ((reason,),) = await ask(service, title)
    assert (reason["error_class"], reason["count"]) == ("provider_permanent", 1)
    tried = await service.command("luma-memory doctor --online")
    assert tried.returncode == 1
    assert "OPENAI_API_KEY" in tried.stdout
    service.provider.always(None)
    assert (await service.command(retry)).returncode == 0
    await until_status(client, block_id, "active")


async def test_redis_does_not_respond(service: Service, client: httpx2.AsyncClient) -> None:
    title = "Redis does not respond"
    await service.redis.stop()
    await ask_until(service, client, "Cache unavailable")
    assert (await client.get("/cache/stats")).json()["connected"] is False
    (doctor,) = commands(title)
    advice = re.sub(r"\s+", " ", (await service.command(doctor)).stdout)
    assert "Redis does not respond" in advice
    assert "check REDIS_URL" in advice
    await service.redis.start()
    await ask_until(service, client, "Cache available again")
    assert (await client.get("/cache/stats")).json()["connected"] is True


async def test_blocks_stored_without_enrichment_are_backfilled(
    service: Service, client: httpx2.AsyncClient
) -> None:
    async def switch_enrichment(*, on: bool) -> None:
        service.stack.settings = service.stack.settings.model_copy(
            update={"enrichment_enabled": on}
        )
        await service.stack.restart("worker")

    await switch_enrichment(on=False)
    block_id = await send(client, "Ada came while nobody wrote titles.")
    await until_status(client, block_id, "active")
    assert await enrichment_of(client, block_id) == "none"
    await switch_enrichment(on=True)
    assert "then `luma-memory backfill`" in section("Blocks are not enriched")
    assert (await service.command("luma-memory backfill")).returncode == 0
    async with asyncio.timeout(RETRY_SECONDS):
        while await enrichment_of(client, block_id) != "model":  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_blocks_are_not_enriched(service: Service, client: httpx2.AsyncClient) -> None:
    title = "Blocks are not enriched"
    await stop_worker(service)
    block_id = await send(client, "Ada lost her job, here that is one of the queue.")
    connection = await asyncpg.connect(service.stack.database_url)
    await connection.execute("DELETE FROM memory_jobs WHERE status = 'pending'")
    await connection.close()
    await service.stack.restart("worker")
    await until_idle(client)
    ((waiting,),) = await ask(service, title)
    assert (str(waiting["id"]), waiting["job_id"]) == (block_id, None)
    found = await client.post("/search", json={"user_id": "ada", "query": "lost her job"})
    assert found.json()["results"][0]["block"]["id"] == block_id
    assert "`luma-memory jobs enqueue`" in section(title)
    repaired = await service.command("luma-memory jobs enqueue --json")
    assert json.loads(repaired.stdout)["enqueued"] == 1
    await until_status(client, block_id, "active")
