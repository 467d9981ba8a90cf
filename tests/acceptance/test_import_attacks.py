"""An import cannot change anything of another user, whatever values its rows choose.

Over all kinds of rows of an export: each with the ids of another user's rows, with that user as its
owner, and with the highest number in each column that has one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from tests.support.service import all_blocks, until_idle

from luma_memory.cli.processes import Stack
from luma_memory.postgres.database import Database
from luma_memory.store.archive import PostgresArchive

pytestmark = pytest.mark.asyncio(loop_scope="module")

HIGHEST = (2**63 - 1, 2**31 - 1, -(2**63))
Row = dict[str, Any]


async def _store(client: httpx2.AsyncClient, user_id: str) -> None:
    """Blocks, a revision, an item, relations' and summaries' kinds are added by hand."""
    for number in range(3):
        block = {
            "user_id": user_id,
            "content": f"Entry {number} of the logbook of the lighthouse.",
            "session_id": "s",
            "speaker": "Ada",
        }
        assert (await client.post("/blocks", json=block)).status_code == 202
    item = {"user_id": user_id, "namespace": ["n"], "key": "k", "value": {"text": "tea"}}
    assert (await client.put("/items", json=item)).is_success
    await until_idle(client)
    (block, *_) = await all_blocks(client, user_id)
    edit = {"content": "Entry edited.", "source": "log"}
    edited = await client.patch(f"/blocks/{block['id']}", params={"user_id": user_id}, json=edit)
    assert edited.status_code == 200
    await until_idle(client)


async def _export(client: httpx2.AsyncClient, user_id: str) -> list[tuple[str, Row]]:
    response = await client.get(f"/users/{user_id}/export")
    lines = [json.loads(line) for line in response.content.splitlines()]
    return [(line["kind"], line["row"]) for line in lines if "row" in line]


async def _import(client: httpx2.AsyncClient, user_id: str, kind: str, row: Row) -> int:
    lines = [
        {"kind": "header", "format": "luma-memory-export/1", "user_id": user_id},
        {"kind": kind, "row": row},
        {"kind": "end", "counts": {kind: 1}},
    ]
    content = "\n".join(map(json.dumps, lines))
    response = await client.post(f"/users/{user_id}/import", content=content)
    assert response.status_code in (200, 422), response.text
    return response.status_code


def _attacks(row: Row, owner: str) -> Iterator[Row]:
    yield row  # ids of the other user
    yield {**row, "project_id": "default", "user_id": owner}
    for name, value in row.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield from ({**row, name: highest} for highest in HIGHEST)
    yield {**row, **dict.fromkeys(("id", "job_id", "version", "position"), HIGHEST[0])}


def _by_hand(rows: list[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Kinds that the user has no rows of, with references to its blocks."""
    one, other = [row["id"] for kind, row in rows if kind == "blocks"][:2]
    at = "2026-03-01T00:00:00Z"
    yield (
        "relations",
        {
            "id": str(uuid4()),
            "source_id": one,
            "target_id": other,
            "type": "supersedes",
            "confidence": 1.0,
            "model": "m",
            "status": "accepted",
            "created_at": at,
        },
    )
    yield (
        "summaries",
        {
            "id": str(uuid4()),
            "week_start": "2026-02-23",
            "text": "Read.",
            "highlights": [],
            "block_ids": [one, other],
            "model": "m",
            "time_zone": "UTC",
            "created_at": at,
        },
    )
    yield "next_passages", {"block_id": one, "ordinal": 0, "model": "m", "revision": 1}
    yield "scope_models", {"model": "other", "changed_at": at}
    usage = {"calls": 1, "input_tokens": 1, "output_tokens": 1, "cost_usd": 1, "blocks": 1}
    yield "usage", {"day": "2026-03-01", "operation": "embedding", "model": "m", **usage}


async def test_no_row_of_an_import_changes_another_user(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    victim, attacker = f"victim-{uuid4()}", f"attacker-{uuid4()}"
    await _store(client, victim)
    before = await _export(client, victim)
    assert {"blocks", "block_revisions", "passages", "users"} <= {kind for kind, _ in before}
    taken = set()
    for kind, row in [*before, *_by_hand(before)]:
        for attack in _attacks(row, victim):
            if await _import(client, attacker, kind, attack) == 200:
                taken.add(kind)
    assert taken == await _kinds(stack)
    await until_idle(client)
    question = {"user_id": attacker, "query": "the logbook"}
    assert (await client.post("/search", json=question)).status_code == 200
    assert await _export(client, victim) == before
    erased = await client.delete(f"/users/{attacker}")
    assert erased.is_success, erased.text
    assert await _export(client, victim) == before
    await _is_served(client, victim)
    await _is_served(client, f"new-{uuid4()}")


async def _kinds(stack: Stack) -> set[str]:
    """All kinds of rows that an import takes."""
    database = Database(stack.database_url, pool_size=1)
    await database.open()
    try:
        return {*await PostgresArchive(database).kinds()}
    finally:
        await database.close()


async def _is_served(client: httpx2.AsyncClient, user_id: str) -> None:
    """Every kind of write and read of a user still works."""
    await _store(client, user_id)
    whose = {"user_id": user_id}
    question = {**whose, "query": "Who keeps the logbook of the lighthouse?"}
    found = await client.post("/search", json=question)
    assert len(found.json()["results"]) >= 3
    assert (await client.post("/context", json=question)).status_code == 200
    blocks = await all_blocks(client, user_id)
    for block in blocks:
        assert (await client.get(f"/blocks/{block['id']}", params=whose)).status_code == 200
    assert (await client.delete(f"/blocks/{blocks[0]['id']}", params=whose)).is_success
