"""Everything of a deploy is started at once, in whatever order: what comes first waits.

What a cluster does: pods whose first container waits for the migration, API and worker before a
database that is not up yet.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.support.commands import COMMAND, clean_environment, run
from tests.support.late_database import behind, let_in
from tests.support.readiness import until_ready
from tests.support.redis_server import free_port
from tests.support.versions import process_of, run_of

from luma_memory.cli.processes import STOP_GRACE_SECONDS
from luma_memory.cli.servers import API_MODULE, WORKER_MODULE

pytestmark = pytest.mark.new_interpreters
RETRY_SECONDS = 60.0


async def until_logged(output: list[tuple[str, str]], name: str, text: str) -> None:
    async with asyncio.timeout(RETRY_SECONDS):
        while not any(who == name and text in line for who, line in output):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_api_and_worker_wait_for_their_database(dsn: str, tmp_path: Path) -> None:
    link, port, output = tmp_path / "server", free_port(), list[tuple[str, str]]()
    url = SecretStr(behind(link, dsn))

    def sink(name: str, line: str) -> None:
        output.append((name, line))

    api = process_of(
        *(None, API_MODULE), name="api", sink=sink, database_url=url, port=port,
        embedding_enabled=False,
    )  # fmt: skip
    worker = process_of(
        None, WORKER_MODULE, name="worker", sink=sink, database_url=url, embedding_enabled=False
    )
    async with api as running_api, worker as running_worker:
        for name in ("api", "worker"):
            await until_logged(output, name, "PostgreSQL does not respond")
        let_in(link, dsn)
        await until_ready(port, output)
        await until_logged(output, "worker", "Memory Worker Starting")
        assert running_api.exit_code is running_worker.exit_code is None


@pytest.mark.slow
async def test_a_worker_that_waits_is_stopped_in_order(tmp_path: Path) -> None:
    output: list[tuple[str, str]] = []
    url = SecretStr(f"postgresql:///memory?host={tmp_path}")
    async with process_of(
        *(None, WORKER_MODULE),
        name="worker",
        sink=lambda name, line: output.append((name, line)),
        database_url=url,
    ) as worker:
        await until_logged(output, "worker", "waiting up to")
        assert await worker.stop(grace_seconds=STOP_GRACE_SECONDS) == 0


async def test_the_check_of_the_schema_waits_for_the_migration(empty_dsn: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "migrate", "--check", "--wait", str(RETRY_SECONDS)),
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(DATABASE_URL=empty_dsn),
    )
    assert process.stderr is not None
    line = await process.stderr.readline()
    assert b"does not have this version's schema" in line
    assert process.returncode is None
    await run_of(None, "migrate", DATABASE_URL=empty_dsn)
    assert await asyncio.wait_for(process.wait(), RETRY_SECONDS) == 0


@pytest.mark.slow
async def test_the_check_fails_where_something_is_missing(empty_dsn: str, dsn: str) -> None:
    missing = await asyncio.to_thread(run, "migrate", "--check", DATABASE_URL=empty_dsn)
    assert missing.returncode == 1
    assert "run `luma-memory migrate`" in missing.stderr
    there = await asyncio.to_thread(run, "migrate", "--check", DATABASE_URL=dsn)
    assert there.returncode == 0, there.stderr
    # A wrong address is not waited for.
    wrong = dsn.replace("/test_", "/no_test_")
    done = await asyncio.to_thread(run, "migrate", "--wait", "300", DATABASE_URL=wrong)
    assert done.returncode == 1
    assert "luma-memory:" in done.stderr
