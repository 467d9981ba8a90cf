"""Export, import and erase a user over HTTP while a worker runs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import IO, Any
from uuid import uuid4

import asyncpg
import httpx2
import psutil
import pytest
from tests.support.partitions import connected_to
from tests.support.service import all_blocks, until_idle, until_recall_is_warm

from luma_memory.cli.processes import Stack
from luma_memory.client import AsyncMemoryClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


def user() -> str:
    return f"user-{uuid4()}"


async def store(client: httpx2.AsyncClient, user_id: str, count: int) -> None:
    blocks = [
        {"user_id": user_id, "content": f"Entry {n} of the logbook.", "session_id": f"s{n % 3}"}
        for n in range(count)
    ]
    response = await client.post("/blocks/batch", json={"blocks": blocks})
    assert response.json()["accepted"] == count


async def export(client: httpx2.AsyncClient, user_id: str) -> bytes:
    response = await client.get(f"/users/{user_id}/export")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    return response.content


def rows(exported: bytes) -> dict[str, list[dict[str, Any]]]:
    """Rows by kind; also: every line is JSON, and the last one counts the others."""
    found: dict[str, list[dict[str, Any]]] = {}
    header, *lines, end = [json.loads(line) for line in exported.splitlines()]
    assert header["format"] == "luma-memory-export/1"
    for line in lines:
        found.setdefault(line["kind"], []).append(line["row"])
    assert end == {"kind": "end", "counts": {kind: len(found[kind]) for kind in found}}
    return found


def without_ids(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What an import takes over: revisions are numbered anew, a user's place in the queue stays."""
    revisions = [{**row, "id": 0} for row in found["block_revisions"]]
    return {**found, "users": [], "block_revisions": revisions}


def verify(stack: Stack, receipt: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "luma_memory.cli", "verify-erasure", "-"],
        input=json.dumps(receipt),
        capture_output=True,
        text=True,
        env={**os.environ, "DATABASE_URL": stack.database_url},
        timeout=60,
        check=False,
    )


async def mentions(stack: Stack, user_id: str) -> list[str]:
    """Tables of all partitions in which the user's id occurs, anywhere."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        tables = await connection.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace"
            " IN (SELECT relnamespace FROM pg_class WHERE relname = 'memory_blocks')"
        )
        return [
            table["name"]
            for table in tables
            if await connection.fetchval(
                f"SELECT EXISTS (SELECT FROM {table['name']} AS t"
                " WHERE position($1 IN t::text) > 0)",
                user_id,
            )
        ]
    finally:
        await connection.close()


async def test_an_erased_user_leaves_a_receipt_and_nothing_else(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    user_id, neighbor = user(), user()
    await store(client, user_id, 40)
    await store(client, neighbor, 2)
    await until_idle(client)
    (block, *_) = await all_blocks(client, user_id)
    edited = await client.patch(
        f"/blocks/{block['id']}",
        params={"user_id": user_id},
        json={"source": "log"},
        headers={"Idempotency-Key": "edit"},
    )
    assert edited.is_success

    headers = {"Idempotency-Key": "erase"}
    receipt = (await client.delete(f"/users/{user_id}", headers=headers)).json()
    counts = receipt["counts"]
    # Beside the blocks' own: windows of the session, and the jobs that make them.
    assert counts["blocks"] == 40
    assert counts["passages"] >= 40
    assert counts["jobs"] >= 40
    assert (counts["block_revisions"], counts["idempotency"]) == (1, 1)
    assert await mentions(stack, user_id) == []
    assert await all_blocks(client, user_id) == []
    assert len(await all_blocks(client, neighbor)) == 2

    again = await client.delete(f"/users/{user_id}", headers=headers)
    assert again.json() == receipt
    verified = verify(stack, receipt)
    assert verified.returncode == 0, verified.stderr
    refused = verify(stack, {**receipt, "counts": {**counts, "blocks": 41}})
    assert (refused.returncode, "not issued by this" in refused.stderr) == (1, True)

    await store(client, user_id, 1)
    anew = verify(stack, receipt)
    assert (anew.returncode, "new data was stored" in anew.stderr) == (0, True)


async def test_what_runs_meanwhile_brings_nothing_back(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    """Workers enrich, clients send, edit and wait, all the time; then the user is erased."""
    user_id = user()
    stop = asyncio.Event()
    sent = 0

    async def send() -> None:
        nonlocal sent
        while not stop.is_set():
            params = {"wait": "true"} if sent % 5 == 0 else {}
            body = {"user_id": user_id, "content": f"Message {sent} in a bottle."}
            sent += 1
            response = await client.post("/blocks", json=body, params=params)
            assert response.status_code in (201, 202, 404, 503), response.text
            if response.status_code == 202:
                path = f"/blocks/{response.json()['id']}"
                await client.patch(path, params={"user_id": user_id}, json={"content": "Edited."})

    senders = [asyncio.create_task(send()) for _ in range(4)]
    receipts = []
    for _ in range(5):
        await asyncio.sleep(0.3)  # lets the load start requests of every kind
        response = await client.delete(f"/users/{user_id}")
        assert response.status_code == 200, response.text
        receipts.append(response.json())
    stop.set()
    await asyncio.gather(*senders)
    last = (await client.delete(f"/users/{user_id}")).json()
    await until_idle(client)
    assert sent > 20
    assert sum(receipt["counts"]["blocks"] for receipt in receipts) > 0
    assert await mentions(stack, user_id) == []
    assert verify(stack, last).returncode == 0


async def test_what_is_imported_is_what_was_exported(client: httpx2.AsyncClient) -> None:
    user_id = user()
    await store(client, user_id, 120)
    await until_idle(client)
    (block, *_) = await all_blocks(client, user_id)
    edit = {"content": "Rewritten: the lighthouse keeper's parrot.", "metadata": {"x": [1.5, "ü"]}}
    await client.patch(f"/blocks/{block['id']}", params={"user_id": user_id}, json=edit)
    await until_idle(client)
    question = {"user_id": user_id, "query": "parrot of the lighthouse", "limit": 20}
    before = await all_blocks(client, user_id)
    found = (await client.post("/search", json=question)).json()["results"]
    exported = await export(client, user_id)
    exported_rows = {kind: len(lines) for kind, lines in rows(exported).items()}
    assert exported_rows == {
        "users": 1,
        "blocks": 120,
        "passages": exported_rows["passages"],
        "block_revisions": 1,
    }
    # At least every second turn ends a window; more do where turns arrived between two jobs.
    assert 120 + 60 <= exported_rows["passages"] < 120 + 120

    await client.delete(f"/users/{user_id}")
    for expected in (sum(exported_rows.values()), 0):
        response = await client.post(f"/users/{user_id}/import", content=exported)
        assert response.status_code == 200, response.text
        stored = response.json()["stored"]
        assert sum(stored.values()) - stored["users"] == expected - (1 if expected else 0)
        assert response.json()["enqueued"] == 0
    assert await all_blocks(client, user_id) == before
    assert (await client.post("/search", json=question)).json()["results"] == found
    assert without_ids(rows(await export(client, user_id))) == without_ids(rows(exported))

    other = user()
    await client.post(f"/users/{other}/import", content=exported)
    assert [b | {"user_id": user_id} for b in await all_blocks(client, other)] == before
    revisions = await client.get(f"/blocks/{block['id']}/revisions", params={"user_id": other})
    assert len(revisions.json()["revisions"]) == 1


async def test_blocks_that_waited_wait_again_after_an_import(client: httpx2.AsyncClient) -> None:
    user_id = user()
    exported = (
        json.dumps({"kind": "header", "format": "luma-memory-export/1", "user_id": "x"})
        + "\n"
        + json.dumps(
            {
                "kind": "blocks",
                "row": {
                    "id": str(uuid4()),
                    "content": "Imported from another service.",
                    "created_at": "2024-05-06T07:08:09Z",
                },
            }
        )
        + "\n"
        + json.dumps({"kind": "end", "counts": {"blocks": 1}})
    )
    response = await client.post(f"/users/{user_id}/import", content=exported)
    assert response.json() == {
        "read": {"blocks": 1},
        "stored": {"blocks": 1},
        "enqueued": 1,
    }
    await until_idle(client)
    (block,) = await all_blocks(client, user_id)
    assert (block["status"], block["created_at"]) == ("active", "2024-05-06T07:08:09Z")


HEADER = '{"kind": "header", "format": "luma-memory-export/1"}\n'
END = '{"kind": "end", "counts": {}}\n'


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("", "import_incomplete"),
        (HEADER, "import_incomplete"),
        (HEADER + '{"kind": "end", "counts": {"blocks": 1}}', "import_incomplete"),
        (HEADER + END + END, "import_line_invalid"),
        ('{"kind": "header", "format": "other/1"}\n', "import_line_invalid"),
        (HEADER + "[]", "import_line_invalid"),
        (HEADER + "{", "import_line_invalid"),
        (HEADER + '{"kind": "blocks", "row": []}', "import_line_invalid"),
        (HEADER + '{"kind": "api_keys", "row": {}}\n' + END, "import_incomplete"),
        (
            HEADER + '{"kind": "blocks", "row": {"id": "x"}}\n{"kind": "users"}',
            "import_row_invalid",
        ),
        (HEADER + '{"kind": "blocks", "row": {}}\n{"kind": "users"}', "import_row_invalid"),
        (HEADER + '{"kind": "workers", "row": {}}\n{"kind": "users"}', "import_kind_unknown"),
        (HEADER + '{"kind": "api_keys", "row": {}}\n{"kind": "users"}', "import_kind_unknown"),
        (
            HEADER + '{"kind": "blocks", "row": {"id": "x", "content": "a\\u0000"}}\n{"kind": "x"}',
            "import_row_invalid",
        ),
    ],
)
async def test_what_is_no_export_is_refused(
    client: httpx2.AsyncClient, lines: str, code: str
) -> None:
    response = await client.post(f"/users/{user()}/import", content=lines)
    assert (response.status_code, response.json()["code"]) == (422, code), response.text


def passage(block_id: str, **parts: object) -> dict[str, object]:
    return {
        "block_id": block_id,
        "ordinal": 0,
        "start_at": 0,
        "stop_at": 5,
        "occurred_at": "2024-05-06T07:08:09Z",
        "lexemes": "{1:0.5}/1000000000",
    } | parts


def vector(first: object, count: int = 384) -> str:
    return "[" + ",".join([str(first), *("0" for _ in range(count - 1))]) + "]"


def hostile_rows(model: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Rows that the tables would take, or that would break what reads them."""
    block_id = str(uuid4())
    for embedding in (
        *(vector(1, count) for count in (1, 3, 383, 385, 16_001)),
        *(vector(first) for first in ("NaN", "Infinity", "1e999", "-1e6", 0, "1e-9", "null")),
        *("[]", "[[1]]", "1", "", "{}"),
    ):
        yield "passages", passage(block_id, embedding=embedding, embedding_model=model)
    yield "passages", passage(block_id, embedding=vector(1))
    yield "passages", passage(block_id, lexemes="{1:0.5}/7")
    yield "passages", passage(block_id, lexemes="{1:NaN}/1000000000")
    block: dict[str, object] = {"id": block_id, "content": "Odd."}
    wrong: list[dict[str, object]] = [
        {"metadata": []},
        {"metadata": None},
        {"tags": ["a", None]},
        {"tags": "a"},
        {"entities": {"name": "x"}},
        {"entities": [{"name": "x"}]},
        {"entities": [{"name": "x", "kind": "spell"}]},
        {"entities": [{"name": "x", "kind": "place", "more": 1}]},
        {"occurred_at": "infinity"},
        {"occurred_at": "20000-01-01"},
        {"created_at": "0001-01-01 BC"},
        {"status": "done"},
        {"importance": 7},
        {"importance": "NaN"},
        {"revision": 2**31 - 1},
        {"repeat_count": 2**31 - 1},
        {"repeat_count": -1},
    ]
    for odd in wrong:
        yield "blocks", block | odd
    usage: dict[str, object] = {"day": "2024-05-06", "operation": "embedding", "model": "m"}
    for name, count in (("calls", 2**63 - 1), ("blocks", -1), ("cost_usd", -5), ("cost_usd", "")):
        yield "usage", usage | {name: count}
    yield "users", {"last_ingest_at": "infinity"}
    yield "users", {"time_zone": "Mars/Olympus"}
    yield "users", {"time_zone": "../../etc/passwd"}


async def test_rows_that_would_break_later_reads_are_rejected(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    user_id = user()
    await store(client, user_id, 2)
    await until_idle(client)
    exported = await export(client, user_id)
    (model,) = {row["embedding_model"] for row in rows(exported)["passages"]}
    for kind, row in hostile_rows(model):
        lines = [HEADER.strip(), json.dumps({"kind": kind, "row": row})]
        lines.append(json.dumps({"kind": "end", "counts": {kind: 1}}))
        response = await client.post(f"/users/{user_id}/import", content="\n".join(lines))
        assert (response.status_code, response.json()["code"]) == (422, "import_row_invalid"), row
    question = {"user_id": user_id, "query": "lighthouse"}
    assert (await client.post("/search", json=question)).status_code == 200
    assert len(rows(await export(client, user_id))["passages"]) == len(rows(exported)["passages"])


async def test_an_import_cannot_use_up_what_all_users_share(client: httpx2.AsyncClient) -> None:
    user_id, other = user(), user()
    await store(client, other, 1)
    await until_idle(client)
    revision = {
        "block_id": str(uuid4()),
        "id": 2**63 - 1,
        "revision": 1,
        "reason": "edit",
        "changed_by": "x",
        "before": {},
    }
    lines = [HEADER.strip(), json.dumps({"kind": "block_revisions", "row": revision})]
    lines.append(json.dumps({"kind": "end", "counts": {"block_revisions": 1}}))
    imported = await client.post(f"/users/{user_id}/import", content="\n".join(lines))
    assert imported.json()["stored"] == {"block_revisions": 1}
    (block,) = await all_blocks(client, other)
    edited = await client.patch(
        f"/blocks/{block['id']}", params={"user_id": other}, json={"content": "Edited after it."}
    )
    assert edited.status_code == 200, edited.text


async def test_erasing_an_unknown_user_returns_a_receipt_of_zeros(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    user_id = user()
    receipt = (await client.delete(f"/users/{user_id}")).json()
    assert set(receipt["counts"].values()) == {0}
    assert rows(await export(client, user_id)) == {}
    assert await mentions(stack, user_id) == []


# Pages of 50 rows, their JSON, and what lies between the sockets; measured: see the test's result.
GROWTH_BYTES_MAX = 24_000_000
LARGE = "large"
_BLOCKS = """
INSERT INTO memory_blocks (id, project_id, user_id, content, occurred_at, status)
SELECT gen_random_uuid(), 'default', $1, n || repeat(' of the logbook', 130), now(), 'active'
FROM generate_series(1, $2::int) AS n
"""
_PASSAGES = """
INSERT INTO memory_passages (project_id, user_id, block_id, ordinal, start_at, stop_at, occurred_at,
                             embedding_model, embedding, lexemes)
SELECT 'default', $1, id, 0, 0, 100, now(), 'of this test',
       (SELECT array_agg(sin(i * 1.1))::real[]::halfvec FROM generate_series(1, 384) AS i),
       '{1:0.5}/1000000000'
FROM memory_blocks WHERE project_id = 'default' AND user_id = $1
"""


@pytest.mark.parametrize("blocks", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
async def test_memory_does_not_grow_with_the_user(
    stack: Stack, client: httpx2.AsyncClient, blocks: int
) -> None:
    table = await connected_to(stack.database_url, LARGE)
    await table.execute(
        "INSERT INTO memory_users (project_id, user_id) VALUES ('default', $1)", LARGE
    )
    await table.execute(_BLOCKS, LARGE, blocks)
    await table.execute(_PASSAGES, LARGE)
    await table.close()
    await until_recall_is_warm(client)  # models are loaded after the start
    api = psutil.Process(stack.children["api"].pid)
    async with AsyncMemoryClient(stack.base_url, timeout_seconds=300) as memory:
        await _exported(memory, limit_bytes=1_000_000)  # what the first export of all allocates
        with tempfile.TemporaryFile() as file:
            growth, size_bytes = await _watched(api, _exported(memory, file=file))
            print(f"measured: {size_bytes / 1e6:.0f} MB exported, grew by {growth / 1e6:.1f} MB")
            assert size_bytes > blocks * 5_000
            assert growth < GROWTH_BYTES_MAX
            file.seek(0)
            growth, stored = await _watched(api, _imported(memory, file))
            print(f"measured: {stored} blocks imported, grew by {growth / 1e6:.1f} MB")
            assert stored == blocks
            assert growth < 2 * GROWTH_BYTES_MAX
        for user_id in (LARGE, f"{LARGE}-2"):
            await memory.erase_user(user_id)


async def test_a_reader_that_pauses_holds_up_the_export_and_not_memory(
    stack: Stack, client: httpx2.AsyncClient
) -> None:
    await until_recall_is_warm(client)
    table = await connected_to(stack.database_url, "paused")
    await table.execute(_BLOCKS, "paused", 6_000)
    await table.close()
    api = psutil.Process(stack.children["api"].pid)
    async with AsyncMemoryClient(stack.base_url) as memory:
        lines = memory.export_user("paused")
        first = await anext(lines)
        before = api.memory_info().rss
        await asyncio.sleep(1)  # the pause itself
        assert api.memory_info().rss - before < GROWTH_BYTES_MAX / 4
        rest = [len(line) async for line in lines]
        assert first.startswith(b'{"kind": "header"')
        assert sum(rest) > 6_000 * 2_000
        await memory.erase_user("paused")


async def _exported(
    memory: AsyncMemoryClient, *, file: IO[bytes] | None = None, limit_bytes: int | None = None
) -> int:
    size_bytes = 0
    lines: AsyncIterator[bytes] = memory.export_user(LARGE)
    async for line in lines:
        size_bytes += len(line)
        if file is not None:
            file.write(line)
        if limit_bytes is not None and size_bytes > limit_bytes:
            await lines.aclose()  # type: ignore[attr-defined]
            break
    return size_bytes


async def _imported(memory: AsyncMemoryClient, file: IO[bytes]) -> int:
    return (await memory.import_user(f"{LARGE}-2", file)).stored["blocks"]


async def _watched(process: psutil.Process, work: Coroutine[Any, Any, int]) -> tuple[int, int]:
    """The most that the process grew by meanwhile, and what came of the work."""
    before = most = process.memory_info().rss
    task = asyncio.create_task(work)
    while not task.done():
        most = max(most, process.memory_info().rss)
        await asyncio.wait([task], timeout=0.02)
    return most - before, await task
