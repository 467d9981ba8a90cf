"""Data for the console's tests and pictures: the sample conversation, and one of everything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from tests.support.keyed_service import KeyedService
from tests.support.script_payloads import PAYLOADS

import luma_memory
from luma_memory.client import AsyncMemoryClient

_SAMPLE = Path(luma_memory.__file__).parent / "cli" / "sample_conversation.json"
_MOVES = (
    ("I live in Berlin.", "2026-03-03"),
    ("I moved to Lisbon.", "2026-03-11"),
    ("I moved to Rome.", "2026-04-11"),
)


def conversation(user_id: str) -> list[dict[str, Any]]:
    (sample,) = json.loads(_SAMPLE.read_text("utf-8"))["conversations"]
    return [
        {
            "user_id": user_id,
            "content": item["text"],
            "speaker": item["speaker"],
            "session_id": item["session"],
            "occurred_at": item["time"],
            "source": "chat",
            "external_id": item["id"],
        }
        for item in sample["items"]
    ]


async def fill(client: AsyncMemoryClient) -> Mapping[str, str]:
    """Store the sample. Returns the console's paths, by the name of the page."""
    stored = [item async for item in client.ingest_many(conversation("ilka"))]
    await client.ingest_block(
        {"user_id": "dina", "content": "أنا أعيش في القاهرة.", "speaker": "دينا"}
    )
    for content, day in _MOVES:
        block = await client.ingest_block(
            {
                "user_id": "iris",
                "content": content,
                "speaker": "Iris",
                "session_id": "chat-8",
                "occurred_at": f"{day}T10:00:00Z",
                "metadata": {"channel": "mail"},
            }
        )
    edited = await client.edit_block(
        block.id, {"content": "I moved to Rome in April."}, user_id="iris"
    )
    await client.make_summary("iris", week="2026-W11")
    for item in stored:
        assert item.id is not None
        await client.wait_until_active(item.id, user_id="ilka")
    await client.wait_until_active(edited.id, user_id="iris")
    await client.search("Where is the flat?", user_id="ilka")
    await client.get_context("Where is the flat?", user_id="ilka")
    value = {"seat": "window", "meal": "vegetarian"}
    await client.put_item(["preferences", "travel"], "flights", value, user_id="ilka")
    webhook = await client.create_webhook("https://example.com/hooks", description="The mailer")
    jobs = await client.list_jobs(limit=1)
    question = "q=Where%20is%20the%20flat%3F&compare=true&ranking2=dense"
    return {
        "overview": "#/?range=1h",
        "users": "#/users",
        "user": "#/users/ilka",
        "user-sessions": "#/users/ilka?tab=sessions",
        "user-items": "#/users/ilka?tab=items",
        "user-weeks": "#/users/iris?tab=weeks",
        "user-relations": "#/users/iris?tab=relations",
        "blocks": "#/blocks?user_id=ilka",
        "blocks-none": "#/blocks?user_id=ilka&speaker=Nobody",
        "block": f"#/blocks/{edited.id}?user_id=iris",
        "search": f"#/search?user_id=ilka&{question}",
        "relations": "#/relations?user_id=iris",
        "jobs": "#/jobs",
        "job": f"#/jobs/{jobs.jobs[0].id}",
        "usage": "#/usage",
        "keys": "#/keys",
        "webhooks": "#/webhooks",
        "webhook": f"#/webhooks/{webhook.id}",
        "settings": "#/settings",
    }


# Of a service with a provider that failed a while ago: the sample runs on local models.
_FAULTS = (
    """
    INSERT INTO memory_usage (day, project_id, user_id, operation, model, calls, input_tokens,
                              output_tokens, cost_usd, blocks)
    SELECT current_date - d, 'default', 'ilka', o.operation, o.model, 12 + d % 5, 4000 + 310 * d,
           o.output, 0.0021 * (1 + d % 4), 12
    FROM generate_series(0, 13) AS d,
         (VALUES ('enrichment', 'openai/gpt-4o-mini', 900),
                 ('embedding', 'openai/text-embedding-3-small', 0))
             AS o (operation, model, output)
    """,
    """
    INSERT INTO memory_circuits (name, state, failures, failing, openings, code, reason,
                                 blocked_until, changed_at, failing_since, last_code, last_reason,
                                 last_failed_at)
    VALUES ('completion', 'away', 7, 'away', 1, 'provider_timeout', 'No response for 20 s',
            now() + interval '1 hour', now(), now() - interval '9 minutes', 'provider_timeout',
            'No response for 20 s', now())
    """,
    """
    UPDATE memory_jobs SET status = 'failed', attempts = 3, error_class = 'provider',
        last_error = 'The model provider returned 500', attempt_errors = (
            SELECT jsonb_agg(jsonb_build_object('attempt', n,
                'at', now() - (4 - n) * interval '1 min', 'error_class', 'provider',
                'message', 'The model provider returned 500',
                'worker', 'worker-1')) FROM generate_series(1, 3) AS n)
    WHERE block_id = $1 AND job_type = 'enrich_and_embed'
    """,
    """
    UPDATE memory_blocks SET status = 'failed', error = 'The model provider returned 500'
    WHERE id = $1
    """,
)


async def plant_faults(client: AsyncMemoryClient, database_url: str) -> Mapping[str, str]:
    """A failed block and its job, a provider that is away, and two weeks of usage."""
    block = await client.ingest_block({"user_id": "noah", "content": "I keep bees."})
    usage, circuit, job, failed = _FAULTS
    connection = await asyncpg.connect(database_url)
    try:
        for statement in (usage, circuit):
            await connection.execute(statement)
        for statement in (job, failed):
            assert await connection.execute(statement, block.id) == "UPDATE 1"
    finally:
        await connection.close()
    jobs = await client.list_jobs(status="failed", user_id="noah")
    return {
        "block-failed": f"#/blocks/{block.id}?user_id=noah",
        "job-failed": f"#/jobs/{jobs.jobs[0].id}",
        "jobs-failed": "#/jobs?status=failed",
    }


@dataclass(frozen=True)
class ModelChange:
    """A change to a model of which no worker is: as far as a test has brought it."""

    connection: asyncpg.Connection
    total: int

    async def embedded(self, count: int) -> None:
        """As a worker stores the vectors of so many passages."""
        await self.connection.execute(
            "INSERT INTO memory_next_passages"
            " (project_id, user_id, block_id, ordinal, revision, model)"
            " SELECT project_id, user_id, block_id, ordinal, 1, 'openai/next-model'"
            " FROM memory_passages WHERE ordinal >= 0 ORDER BY block_id, ordinal LIMIT $1"
            " ON CONFLICT DO NOTHING",
            count,
        )

    async def end(self) -> None:
        await self.connection.execute(
            "DELETE FROM memory_embedding_models WHERE id = 'openai/next-model'"
        )
        await self.connection.execute("DELETE FROM memory_next_passages")


@asynccontextmanager
async def changing_model(database_url: str) -> AsyncIterator[ModelChange]:
    """Another embedding model is requested."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO memory_embedding_models (id, wanted_at)"
            " VALUES ('openai/next-model', now())"
        )
        total = await connection.fetchval("SELECT count(*) FROM memory_passages WHERE ordinal >= 0")
        change = ModelChange(connection, total)
        try:
            yield change
        finally:
            await change.end()
    finally:
        await connection.close()


async def plant_payloads(keyed: KeyedService, client: AsyncMemoryClient) -> Mapping[str, str]:
    """Every payload in every field that a page shows. Returns the paths that show them."""

    async def blocks() -> AsyncIterator[Mapping[str, Any]]:
        for payload in PAYLOADS:
            yield {
                "user_id": payload,
                "content": f"{payload} I live in Lisbon.",
                "speaker": payload,
                "session_id": payload,
                "source": payload,
                "agent_id": payload,
                "external_id": payload,
                "metadata": {payload: payload},
            }

    found = [item async for item in client.ingest_many([block async for block in blocks()])]
    paths = {"payload-users": "#/users?sort=user_id", "payload-blocks": "#/blocks"}
    for number in (5, 41):
        payload, block = PAYLOADS[number], found[number]
        assert block.id is not None
        await client.wait_until_active(block.id, user_id=payload)
        value = {payload: [payload]}
        await client.put_item(["stored"], payload, value, user_id=payload)
        name = _escaped(payload)
        paths[f"payload-user-{number}"] = f"#/users/{name}"
        paths[f"payload-sessions-{number}"] = f"#/users/{name}?tab=sessions"
        paths[f"payload-items-{number}"] = f"#/users/{name}?tab=items"
        paths[f"payload-block-{number}"] = f"#/blocks/{block.id}?user_id={name}"
        paths[f"payload-search-{number}"] = f"#/search?user_id={name}&q={name}"
    for payload in PAYLOADS[:10]:
        await client.create_webhook("https://example.com/hooks", description=payload)
    await _named_keys(keyed)
    paths |= {"payload-jobs": "#/jobs", "payload-keys": "#/keys", "payload-webhooks": "#/webhooks"}
    return paths


async def _named_keys(keyed: KeyedService) -> None:
    key = await keyed.key("admin", "read", "ingest")
    async with keyed.client(key) as client:
        for payload in PAYLOADS:
            body = {"permissions": ["read"], "name": payload, "user_id": payload}
            response = await client.post("/keys", json=body)
            assert response.status_code == 201, response.text


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


# Ids rise with time, as those of the service do.
_LARGE = (
    """
    INSERT INTO memory_users (user_id, last_ingest_at, active_hour, created_at)
    SELECT 'user-' || n, at, date_trunc('hour', at, 'UTC'), at
    FROM (SELECT n, now() - random() * interval '30 days' AS at
          FROM generate_series(1, $1::int) AS n) AS u
    """,
    """
    INSERT INTO memory_blocks (id, user_id, content, session_id, source, occurred_at, content_hash,
                               status, enrichment)
    SELECT (lpad(to_hex(1700000000000 + b * 10000 + u), 12, '0') || '7'
            || substr(md5(b || '-' || u), 1, 19))::uuid,
           'user-' || u, 'Note ' || b || ' of user ' || u || repeat(' about the garden', 10),
           'session-' || b % 3, CASE WHEN (b * 7 + u) % 100 < 2 THEN 'mail' ELSE 'chat' END,
           now() - random() * interval '30 days', sha256(convert_to(b || '-' || u, 'UTF8')),
           'active', 'local'
    FROM generate_series(1, 10) AS b, generate_series(1, $1::int) AS u
    ORDER BY b, u
    """,
    """
    INSERT INTO memory_jobs (user_id, job_type, status, attempts, run_at, fair_at, locked_by,
                             locked_until, error_class, last_error, created_at,
                             started_at, finished_at)
    SELECT 'user-' || n % $1::int, 'weekly_summary',
           s.status, n % 3, now() + interval '7 days', 'infinity',
           CASE s.status WHEN 'processing' THEN 'worker-1' END,
           CASE s.status WHEN 'processing' THEN now() + interval '1 hour' END,
           CASE s.status WHEN 'failed' THEN 'provider' END,
           CASE s.status WHEN 'failed' THEN 'Status 500' END, now() - n * interval '1 second',
           now(), CASE WHEN s.status NOT IN ('pending', 'processing') THEN now() END
    FROM generate_series(1, $1::int * 5) AS n
    JOIN unnest(ARRAY['pending', 'processing', 'completed', 'failed', 'cancelled'])
        WITH ORDINALITY AS s (status, number) ON s.number = 1 + n % 5
    """,
)


async def fill_large(database_url: str, *, users: int) -> None:
    """Ten blocks and five jobs for each of so many users."""
    connection = await asyncpg.connect(database_url)
    try:
        for statement in _LARGE:
            await connection.execute(statement, users)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
