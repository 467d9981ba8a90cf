"""Hostile input: refused or kept exactly, in bounded memory."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx2
import psutil
import pytest
import pytest_asyncio
from tests.support.hostile_texts import KEPT, REFUSED, words
from tests.support.servers import Servers
from tests.support.stacks import running_service

from luma_memory.cli.processes import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
JSON = {"Content-Type": "application/json"}
# What a request may leave behind in the API process: a body of 2 MB is parsed into some times that.
GROWTH_BYTES_MAX = 150_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(servers: Servers) -> AsyncIterator[Stack]:
    """Without a worker: what comes in is all that is looked at."""
    async with running_service(servers, workers=0) as running:
        yield running


@pytest.fixture(scope="module")
def api(stack: Stack) -> psutil.Process:
    return psutil.Process(stack.children["api"].pid)


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_kept_is_refused(
    client: httpx2.AsyncClient, api: psutil.Process, body: bytes
) -> None:
    before = api.memory_info().rss
    for path in ("/blocks", "/search"):
        response = await client.post(path, content=body, headers=JSON)
        assert response.status_code in (400, 413, 422), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert len(response.content) < 20_000, "an answer does not repeat what came"
    assert api.memory_info().rss - before < GROWTH_BYTES_MAX


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
async def test_what_is_odd_is_kept_exactly(client: httpx2.AsyncClient, text: str) -> None:
    user_id = f"{text[:200].strip()} {uuid4()}" if "\r" not in text else f"h-{uuid4()}"
    sent = {
        "user_id": user_id,
        "content": text,
        "session_id": text[:250],
        "metadata": {text[:300]: text[:1_000], "__proto__": {"constructor": None}},
    }
    accepted = await client.post("/blocks", json=sent)
    assert accepted.status_code == 202, accepted.text
    path = f"/blocks/{accepted.json()['id']}"
    read = (await client.get(path, params={"user_id": user_id})).json()
    assert {name: read[name] for name in sent} == sent
    listed = await client.get("/blocks", params={"user_id": user_id, "session_id": text[:250]})
    assert read["id"] in [entry["id"] for entry in listed.json()["blocks"]]
    question = {"user_id": user_id, "query": text[:10_000]}
    found = await client.post("/search", json=question)
    assert found.status_code == 200, found.text
    # A user id of similar glyphs is another user.
    alike = user_id.replace("\u0430", "a").replace("\u0434", "d")
    if alike != user_id:
        others = await client.get("/blocks", params={"user_id": alike})
        assert others.json()["blocks"] == []


@pytest.mark.parametrize("limit", [-1, 0, 201, 2**31, 2**63, "1e3", "०", "0x1", "", "null"])
@pytest.mark.parametrize("path", ["/blocks", "/jobs"])
async def test_limits_out_of_range(client: httpx2.AsyncClient, path: str, limit: object) -> None:
    params = {"user_id": "hostile", "limit": str(limit)}
    response = await client.get(path, params=params)
    assert response.status_code == 422, response.text


@pytest.mark.parametrize("job_id", ["-1", "0", str(2**63), "1" * 5_000, "1.5", "%00", "..%2f1"])
async def test_ids_out_of_range(client: httpx2.AsyncClient, job_id: str) -> None:
    response = await client.get(f"/jobs/{job_id}")
    assert response.status_code in (404, 422), response.text


@pytest.mark.parametrize("text", [r"\":", ":", r"a\\", '":"', '" :', "'\":1"])
async def test_what_looks_like_a_key_is_none(client: httpx2.AsyncClient, text: str) -> None:
    sent = {"user_id": "keys", "content": text, "metadata": {text: [text, {text: {"": text}}]}}
    forms: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 1}]
    for spaces in forms:
        body = json.dumps(sent, **spaces).encode()
        response = await client.post("/blocks", content=body, headers=JSON)
        assert response.status_code == 202, response.text
        read = await client.get(f"/blocks/{response.json()['id']}", params={"user_id": "keys"})
        assert read.json()["metadata"] == sent["metadata"]


@pytest.mark.parametrize("keys", [[""], ["\xad"], ["a", "b"], ["x" * 257]])
async def test_a_key_of_a_write_that_is_none_is_refused(
    client: httpx2.AsyncClient, keys: list[str]
) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1")) for key in keys]
    block_id = uuid4()
    for method, path, body in (
        ("POST", "/blocks", {"user_id": "keys", "content": "x"}),
        ("POST", "/blocks/batch", {"blocks": [{"user_id": "keys", "content": "x"}]}),
        ("PATCH", f"/blocks/{block_id}?user_id=keys", {"content": "x"}),
        ("DELETE", f"/blocks/{block_id}?user_id=keys", None),
        ("DELETE", "/users/keys-nobody", None),
        ("POST", "/jobs/1/retry", None),
    ):
        response = await client.request(method, path, json=body, headers=headers)
        assert response.status_code == 422, (method, path, response.text)
        assert response.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_an_endless_body_is_cut_off(client: httpx2.AsyncClient, api: psutil.Process) -> None:
    before = api.memory_info().rss

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2_000):
            yield b"x" * 65_536

    try:
        response = await client.post("/blocks/batch", content=endless(), headers=JSON)
        assert response.status_code == 413
    except httpx2.TransportError:
        pass  # answered, and the connection cut while we were still sending
    assert api.memory_info().rss - before < GROWTH_BYTES_MAX


async def test_a_packed_body_is_not_unpacked(
    client: httpx2.AsyncClient, api: psutil.Process
) -> None:
    before = api.memory_info().rss
    bomb = gzip.compress(b"0" * 60_000_000)
    headers = {**JSON, "Content-Encoding": "gzip"}
    response = await client.post("/blocks", content=bomb, headers=headers)
    assert response.status_code in (400, 415), response.text
    assert api.memory_info().rss - before < GROWTH_BYTES_MAX


async def test_one_hostile_request_does_not_hold_up_the_others(client: httpx2.AsyncClient) -> None:
    """A batch that takes long to read and check, and small requests beside it."""
    items: list[dict[str, Any]] = [
        {"user_id": "busy", "content": words(100), "metadata": {"n": list(range(900))}}
        for _ in range(400)
    ]
    body = json.dumps({"blocks": [*items, {"content": 7}]}).encode()
    batch = asyncio.create_task(client.post("/blocks/batch", content=body, headers=JSON))
    served = 0
    while not batch.done():
        assert (await client.get("/health/live")).status_code == 200
        served += 1
    assert (await batch).status_code in (202, 413)
    # Held up by the batch they would be served after it.
    assert served > 3


def hostile_headers() -> Iterator[tuple[str, str]]:
    yield "Idempotency-Key", "x" * 257
    yield "Idempotency-Key", "\xff\xfe"
    yield "If-Match", '"' + "9" * 60 + '"'
    yield "X-Request-ID", "../../etc/passwd"
    yield "Content-Type", "application/json; charset=utf-16"
    yield "Authorization", "Bearer " + "x" * 8_000
    yield "X-Forwarded-For", "not an address, 1.2.3.4"


@pytest.mark.parametrize(("name", "value"), [*hostile_headers()])
async def test_hostile_headers(client: httpx2.AsyncClient, name: str, value: str) -> None:
    headers = [(b"Content-Type", b"application/json"), (name.encode(), value.encode("latin-1"))]
    for method, path in (("POST", "/blocks"), ("PATCH", f"/blocks/{uuid4()}?user_id=hostile")):
        response = await client.request(
            method,
            path,
            content=b'{"user_id":"headers","content":"x"}'
            if method == "POST"
            else b'{"content":"x"}',
            headers=headers,
        )
        assert response.status_code < 500, response.text
        assert response.headers["x-request-id"].isalnum()


@pytest.mark.parametrize("odd", ["%ff", "a%C3%28", "%ED%B0%80", "%c0%af"])
async def test_a_user_id_that_is_not_utf8_is_rejected(client: httpx2.AsyncClient, odd: str) -> None:
    """It would become the replacement character: one id for many."""
    for method, path in (
        ("GET", f"/blocks?user_id={odd}"),
        ("GET", f"/users/{odd}/export"),
        ("DELETE", f"/users/{odd}"),
        ("PATCH", f"/blocks/{uuid4()}?user_id={odd}"),
    ):
        response = await client.request(method, path, json={"source": "x"})
        assert (response.status_code, response.json()["code"]) == (400, "malformed_request"), path


async def test_a_slash_in_a_name_is_part_of_it(client: httpx2.AsyncClient) -> None:
    user_id = f"org/{uuid4()}/a%2Fb?#"
    await client.post("/blocks", json={"user_id": user_id, "content": "Mine."})
    path = f"/users/{quote(user_id, safe='')}"
    assert '"Mine."' in (await client.get(f"{path}/export")).text
    assert (await client.delete(f"/users/{quote(user_id)}")).status_code == 404, "a longer path"
    assert (await client.delete(path)).json()["counts"]["blocks"] == 1
