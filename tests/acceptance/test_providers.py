"""A failing model provider through API and CLI: usage, backfill, change of the model."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr
from tests.fakes import openai_server as fake
from tests.fakes.openai_server import FakeOpenAI
from tests.support.servers import Servers
from tests.support.service import BASE_PATH, RETRY_SECONDS, until_idle
from tests.support.stacks import running_service

from luma_memory.cli.processes import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[2]
FOREIGN = ("MEMORY_", "OPENAI_", "DATABASE_URL", "PG")


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(dimension=64) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(provider: FakeOpenAI, servers: Servers) -> AsyncIterator[Stack]:
    async with running_service(
        servers,
        openai_base_url=provider.base_url,
        embedding_dimension=64,
        retry_attempts=2,
        retry_backoff_ms=20,
        provider_timeout_ms=1_000,
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=stack.base_url + BASE_PATH, trust_env=False, timeout=30
    ) as opened:
        yield opened


async def cli(stack: Stack, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`luma-memory …` on the stack's database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "luma_memory.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**kept, "DATABASE_URL": stack.database_url, **variables},
        timeout=RETRY_SECONDS,
        check=False,
    )


async def _post(client: httpx2.AsyncClient, user: str, count: int) -> None:
    blocks = [{"user_id": user, "content": f"{user} drank tea number {n}."} for n in range(count)]
    response = await client.post("/blocks/batch", json={"blocks": blocks})
    assert response.status_code == 202
    await until_idle(client)


async def _blocks(client: httpx2.AsyncClient, user: str) -> list[dict[str, Any]]:
    page = (await client.get("/blocks", params={"user_id": user})).json()
    blocks: list[dict[str, Any]] = page["blocks"]
    return blocks


async def test_usage_has_calls_tokens_cost_and_the_price_of_a_block(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    await _post(client, "ada", 4)
    blocks = await _blocks(client, "ada")
    assert {b["enrichment_model"] for b in blocks} == {"openai/gpt-4o-mini+enrich_v1"}
    async with asyncio.timeout(30):
        while True:  # the account is written behind the work
            usage = (await client.get("/usage", params={"user_id": "ada"})).json()
            if usage["total"]["blocks"] == 8:
                break
            await asyncio.sleep(0.05)
    by_operation = {row["operation"]: row for row in usage["operations"]}
    enrichment, embedding = by_operation["enrichment"], by_operation["embedding"]
    assert (enrichment["calls"], enrichment["blocks"]) == (4, 4)
    assert enrichment["input_tokens"] == 4 * fake.PROMPT_TOKENS
    assert enrichment["output_tokens"] == 4 * fake.COMPLETION_TOKENS
    assert 0 < enrichment["cost_per_block_usd"] < enrichment["old_cost_per_block_usd"] == 0.002
    assert 0 < embedding["cost_per_block_usd"] < embedding["old_cost_per_block_usd"] == 0.0001
    assert usage["unpriced_models"] == []
    assert usage["prices"]["source"].startswith("genai-prices ")
    assert usage["prices"]["dated"]
    assert (await client.get("/usage", params={"user_id": "nobody"})).json()["lines"] == []
    shown = await cli(stack, "usage", "--user", "ada")
    assert shown.returncode == 0, shown.stderr
    assert "gpt-4o-mini" in shown.stdout
    assert "prices: genai-prices" in shown.stderr
    by_command = json.loads((await cli(stack, "usage", "--user", "ada", "--json")).stdout)
    assert by_command["total"] == usage["total"]


async def test_exactly_the_metrics_of_the_catalogue_are_exposed(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    exposed = set(re.findall(r"^# TYPE (\S+)", response.text, re.MULTILINE))
    exposed = {name.removesuffix("_total").removesuffix("_created") for name in exposed}
    catalogue = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert exposed == set(re.findall(r"^\| `(luma_\w+)`", catalogue, re.MULTILINE))
    assert 'luma_request_seconds_bucket{le="+Inf",method="POST",route="' in response.text
    assert "ada" not in response.text


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"since": "2024-02-02", "until": "2024-01-01"}, "period_reversed"),
        ({"since": "yesterday"}, "invalid_request"),
    ],
)
async def test_a_wrong_period_is_refused(
    params: dict[str, str], code: str, client: httpx2.AsyncClient
) -> None:
    response = await client.get("/usage", params=params)
    assert response.status_code == 422
    assert response.json()["code"] == code


@pytest.mark.parametrize(
    ("user", "fault", "reason"),
    [
        ("bea", fake.html(503), "HTTP 503"),
        ("ben", fake.error(401, code="invalid_api_key"), "key"),
        ("bill", fake.out_of_money(), ""),
    ],
    ids=["503", "wrong key", "empty account"],
)
async def test_blocks_without_a_step_are_backfilled(
    user: str,
    fault: fake.Reply,
    reason: str,
    stack: Stack,
    client: httpx2.AsyncClient,
    provider: FakeOpenAI,
) -> None:
    provider.always(fault)
    await _post(client, user, 3)
    blocks = await _blocks(client, user)
    assert {(b["status"], b["enrichment"]) for b in blocks} == {("active", "fallback")}
    assert all(reason in b["error"] for b in blocks)
    # While the provider still fails: once it responds, a backfill can come by itself.
    shown = await cli(stack, "backfill", "--user", user, "--dry-run", "--json")
    pending = json.loads(shown.stdout)
    assert sum(pending.values()) == 3
    provider.always(None)
    assert (await cli(stack, "backfill")).returncode == 0
    async with asyncio.timeout(RETRY_SECONDS):
        while {b["enrichment"] for b in await _blocks(client, user)} != {"model"}:  # noqa: ASYNC110 - another process's work
            await asyncio.sleep(0.1)
    assert {b["error"] for b in await _blocks(client, user)} == {None}


async def test_what_is_switched_off_leaves_no_job_waiting(stack: Stack) -> None:
    """Relations are off unless switched on; these jobs are of before."""
    table = await asyncpg.connect(stack.database_url)
    try:
        job_id = await table.fetchval(
            "SELECT enqueue_memory_jobs(ARRAY['default'], ARRAY['ada'], ARRAY['detect_relations'],"
            " ARRAY[gen_random_uuid()], ARRAY[NULL::jsonb], ARRAY[0], ARRAY[NULL::timestamptz],"
            " ARRAY[NULL::text])"
        )
        ended = "SELECT last_error FROM memory_jobs WHERE id = $1 AND status = 'cancelled'"
        async with asyncio.timeout(RETRY_SECONDS):
            while not (why := await table.fetchval(ended, job_id)):  # noqa: ASYNC110 - another process's work
                await asyncio.sleep(0.1)
        assert why == "MEMORY_RELATIONS_ENABLED is false"
    finally:
        await table.close()


async def test_the_model_is_changed_while_the_service_runs(
    stack: Stack, client: httpx2.AsyncClient, provider: FakeOpenAI
) -> None:
    provider.always(None)
    await _post(client, "cleo", 5)
    question = {"user_id": "cleo", "query": "cleo drank tea number 3.", "explain": True}

    async def similarity(api: httpx2.AsyncClient) -> float:
        best = (await api.post("/search", json=question)).json()["results"][0]
        assert best["block"]["content"] == question["query"]
        found: float = best["explanation"]["dense_similarity"]
        return found

    assert await similarity(client) == pytest.approx(1, abs=0.01)
    # The same database with another dimension, beside the processes that do not know yet: how an
    # operator changes the model.
    settings = stack.settings.model_copy(
        update={"embedding_dimension": 32, "database_url": SecretStr(stack.database_url)}
    )
    renewed = Stack(settings)
    await renewed.start()
    try:
        async with httpx2.AsyncClient(
            base_url=renewed.base_url + BASE_PATH, trust_env=False, timeout=30
        ) as new_client:
            before = await similarity(new_client)
            done = await cli(
                stack,
                "reembed",
                OPENAI_BASE_URL=provider.base_url,
                MEMORY_EMBEDDING_DIMENSION="32",
            )
            assert done.returncode == 0, done.stderr
            assert "openai/text-embedding-3-small@32: 0 of" in done.stderr
            for api in (client, new_client):
                assert await similarity(api) == pytest.approx(before, abs=0.01)
        table = await asyncpg.connect(stack.database_url)
        models = "SELECT DISTINCT embedding_model FROM memory_passages"
        assert [row[0] for row in await table.fetch(models)] == ["openai/text-embedding-3-small@32"]
        await table.close()
    finally:
        await renewed.stop()
