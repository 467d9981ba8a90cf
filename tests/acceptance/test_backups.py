"""`backup` under load, `restore` elsewhere, and a service on what was restored."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr
from tests.support.commands import run
from tests.support.load import Ledger, blocks_of, load, until_settled
from tests.support.readiness import until_ready
from tests.support.redis_server import free_port
from tests.support.service import BASE_PATH
from tests.support.versions import process_of, run_of

from luma_memory.cli.processes import running_stack
from luma_memory.cli.servers import API_MODULE, WORKER_MODULE

pytestmark = pytest.mark.slow
BLOCKS = 100
ITEM = {"user_id": "ada", "namespace": ["notes"], "key": "tea", "value": {"text": "green"}}


async def test_a_backup_under_load_holds_all_that_was_accepted_before(
    empty_dsn: str, tmp_path: Path
) -> None:
    ledger, file = Ledger("backup"), tmp_path / "memory.dump"
    async with (
        running_stack(data_dir=tmp_path / "data") as stack,
        load(stack, ledger, senders=4, pace_seconds=0.2),
    ):
        await ledger.grow_by(BLOCKS)
        before = set(ledger.accepted.values())
        async with httpx2.AsyncClient(trust_env=False) as client:
            stored = await client.put(f"{stack.base_url}{BASE_PATH}/items", json=ITEM)
        await run_of(None, "backup", str(file), DATABASE_URL=stack.database_url)
        await ledger.grow_by(BLOCKS)
    assert file.stat().st_size > 0

    output: list[tuple[str, str]] = []
    await run_of(None, "restore", str(file), DATABASE_URL=empty_dsn)
    table = await asyncpg.connect(empty_dsn)
    # Jobs that were running when the backup was made have a lease; its holder is gone.
    await table.execute("UPDATE memory_jobs SET locked_until = now() WHERE status = 'processing'")
    await table.close()
    port, url = free_port(), SecretStr(empty_dsn)
    async with (
        process_of(
            None,
            API_MODULE,
            name="api",
            sink=lambda name, line: output.append((name, line)),
            database_url=url,
            port=port,
        ),
        process_of(None, WORKER_MODULE, name="worker", sink=lambda *_: None, database_url=url),
        httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}{BASE_PATH}", trust_env=False, timeout=30
        ) as client,
    ):
        await until_ready(port, output)
        await until_settled(client)
        restored = await blocks_of(client, ledger.users)
        assert before <= {block["id"] for block in restored} <= set(ledger.accepted.values())
        assert Counter(block["status"] for block in restored) == {"active": len(restored)}
        found = await client.post(
            "/search", json={"user_id": ledger.users[0], "query": "Who met at the lighthouse?"}
        )
        assert found.json()["results"]
        named = {"user_id": "ada", "namespace": "notes", "key": "tea"}
        item = (await client.get("/items", params=named)).json()
        assert (item["value"], item["etag"]) == (ITEM["value"], stored.json()["etag"])
        # What is stored now comes after it.
        await client.put("/items", json={**ITEM, "key": "coffee"})
        listed = await client.post("/items/search", json={"user_id": "ada", "order": "oldest"})
        assert [one["key"] for one in listed.json()["items"]] == ["tea", "coffee"]


async def test_a_database_that_keeps_something_is_left_alone(tmp_path: Path) -> None:
    async with running_stack(data_dir=tmp_path / "data") as stack:
        url, file = stack.database_url, tmp_path / "memory.dump"
        async with httpx2.AsyncClient(trust_env=False) as client:
            block = {"user_id": "ada", "content": "Ada lives in Lisbon."}
            await client.post(f"{stack.base_url}{BASE_PATH}/blocks", json=block)
        made = await asyncio.to_thread(run, "backup", file, DATABASE_URL=url)
        assert made.returncode == 0
        refused = await asyncio.to_thread(run, "restore", file, DATABASE_URL=url)
        assert refused.returncode == 1
        assert "keeps something already" in refused.stderr
