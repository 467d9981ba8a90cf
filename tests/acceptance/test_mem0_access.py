"""Every route of mem0's interface with wrong credentials, foreign ids and hostile input.

The routes come from their OpenAPI document, so that one which is added later is in here as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service

from luma_memory.domain.access import EVERY_PERMISSION, Permission

pytestmark = pytest.mark.asyncio(loop_scope="module")
# In everything that is Ada's: her words, her metadata, the names of her agent and her runs.
MARKER = "quincunx"
ADA, BOB = "ada", "bob"
HOOKS = Path(__file__).parents[1] / "support"


@dataclass
class Ground:
    """A running service in which Ada of the project `shop` has something to hide."""

    door: KeyedService
    document: dict[str, Any]
    memory_id: str
    event_id: str


@asynccontextmanager
async def mem0(door: KeyedService, key: str | None) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {} if key is None else {"Authorization": f"Token {key}"}
    async with httpx2.AsyncClient(
        base_url=door.stack.base_url, headers=headers, trust_env=False, timeout=60
    ) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with running_keyed_service(tmp_path_factory.mktemp("mem0-access") / "data") as door:
        everything = await door.key(*EVERY_PERMISSION, project_id="shop")
        async with mem0(door, everything) as client:
            body = {
                "messages": [{"role": "user", "content": f"The {MARKER} of the orchard."}],
                "user_id": ADA,
                "agent_id": f"{MARKER}-agent",
                "run_id": f"{MARKER}-run",
                "metadata": {MARKER: 1},
                "infer": False,
            }
            added = (await client.post("/mem0/v3/memories/add/", json=body)).json()
            document = (await client.get("/mem0/openapi.json")).json()
        yield Ground(door, document, added["results"][0]["id"], added["event_id"])


def operations(ground: Ground) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description; deletions last."""
    found = [
        (method.upper(), path, said)
        for path, methods in ground.document["paths"].items()
        for method, said in methods.items()
    ]
    assert len(found) > 20
    yield from sorted(found, key=lambda one: one[0] == "DELETE")


def request(ground: Ground, path: str, said: dict[str, Any], user_id: str) -> dict[str, Any]:
    """What a client sends that knows Ada's ids."""
    values = {
        "memory_id": ground.memory_id,
        "event_id": ground.event_id,
        "entity_type": "user",
        "entity_id": user_id,
    }
    names = {one["name"]: one["in"] for one in said.get("parameters", [])}
    url = path.format_map({name: values[name] for name, place in names.items() if place == "path"})
    params = {"user_id": user_id} if names.get("user_id") == "query" else {}
    content = said.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return {"url": url, "params": params}
    schema = content["schema"]["$ref"].rpartition("/")[2]
    example = json.dumps(ground.document["components"]["schemas"][schema]["examples"][0])
    example = example.replace('"ana"', json.dumps(user_id))
    example = re.sub(r'(?<="memory_id": )"[^"]+"', json.dumps(ground.memory_id), example)
    return {
        "url": url,
        "params": params,
        "content": example.replace("Where does Ana live?", MARKER).encode(),
        "headers": {"Content-Type": "application/json"},
    }


async def answers(
    ground: Ground, key: str | None, user_id: str = ADA
) -> AsyncIterator[tuple[str, dict[str, Any], httpx2.Response]]:
    async with mem0(ground.door, key) as client:
        for method, path, said in operations(ground):
            answer = await client.request(method, **request(ground, path, said, user_id))
            name = f"{method} {path}"
            assert answer.status_code < 500, f"{name}: {answer.text}"
            if not answer.is_success:
                assert answer.headers["content-type"] == "application/json", name
                assert {"detail", "code"} <= set(answer.json()), name
            yield name, said, answer


async def untouched(ground: Ground) -> bool:
    key = await ground.door.key("read", project_id="shop")
    async with mem0(ground.door, key) as client:
        filters = {"filters": {"user_id": ADA}}
        page = (await client.post("/mem0/v3/memories/", json=filters)).json()
        history = await client.get(f"/mem0/v1/memories/{ground.memory_id}/history/")
    return bool(page["count"] == 1 and len(history.json()) == 1)


@pytest.mark.parametrize("kind", ["none", "bad"])
async def test_without_good_credentials_there_is_no_answer(ground: Ground, kind: str) -> None:
    key = None if kind == "none" else "lmk_" + "a" * 12 + "_" + "b" * 43
    async for name, _said, answer in answers(ground, key):
        assert answer.status_code in (401, 429), f"{name}: {answer.text}"
        assert MARKER not in answer.text


@pytest.mark.parametrize("held", EVERY_PERMISSION)
async def test_another_permission_is_not_enough(ground: Ground, held: Permission) -> None:
    key = await ground.door.key(held, project_id="forum")
    async for name, said, answer in answers(ground, key, user_id=BOB):
        if said["x-permission"] not in ("any", held):
            assert answer.status_code == 403, f"{name}: {answer.text}"
            assert answer.json()["code"] == "permission_missing"
        else:
            assert answer.status_code in (200, 403, 404), f"{name}: {answer.text}"


async def test_another_users_key_sees_and_changes_nothing(ground: Ground) -> None:
    key = await ground.door.key(*EVERY_PERMISSION, project_id="shop", user_id=BOB)
    async for name, _said, answer in answers(ground, key):
        assert MARKER not in answer.text, f"{name}: {answer.text}"
        if not name.endswith(("/v1/ping/", "GET /mem0/v1/entities/")):
            assert answer.status_code in (403, 404), f"{name}: {answer.text}"
    async with mem0(ground.door, key) as client:
        # An agent's deletion reaches no memory of another user.
        gone = await client.delete(f"/mem0/v2/entities/agent/{MARKER}-agent/")
        assert gone.json()["deleted"] == 0
        either = {"OR": [{"user_id": BOB}, {"user_id": ADA}]}
        refused = await client.post("/mem0/v3/memories/", json={"filters": either})
        assert refused.status_code == 403
        listed = (await client.get("/mem0/v1/entities/")).json()
        assert listed["count"] == 0
    assert await untouched(ground)


async def test_another_projects_key_sees_and_changes_nothing(ground: Ground) -> None:
    key = await ground.door.key(*EVERY_PERMISSION, project_id="forum")
    async for name, _said, answer in answers(ground, key):
        assert MARKER not in answer.text, f"{name}: {answer.text}"
        if "{memory_id}" in name or "/batch/" in name or "{event_id}" in name:
            assert answer.status_code == 404, f"{name}: {answer.text}"
    assert await untouched(ground)


async def test_foreign_and_missing_are_reported_alike(ground: Ground) -> None:
    key = await ground.door.key("read", project_id="forum")
    async with mem0(ground.door, key) as client:
        told = []
        for memory_id in (ground.memory_id, "0198f3a2-7c11-7abc-9def-0123456789ab", "x"):
            answer = await client.get(f"/mem0/v1/memories/{memory_id}/")
            told.append({**answer.json(), "request_id": "", "status": answer.status_code})
        assert told[0] == told[1] == told[2]


async def test_the_scheme_token_opens_no_other_route(ground: Ground) -> None:
    key = await ground.door.key(*EVERY_PERMISSION)
    async with mem0(ground.door, key) as client:
        answer = await client.get("/api/v1/memory/blocks", params={"user_id": BOB})
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"


_MESSAGE = '[{"role": "user", "content": "x"}]'
HOSTILE: dict[str, tuple[str, str, str]] = {
    "no JSON": ("POST", "/v3/memories/add/", "{"),
    "a list": ("POST", "/v3/memories/add/", "[]"),
    "NUL": ("POST", "/v3/memories/add/", '{"messages": "a\\u0000", "user_id": "b"}'),
    "NUL in an id": (
        "POST",
        "/v3/memories/add/",
        f'{{"messages": {_MESSAGE}, "user_id": "\\u0000"}}',
    ),
    "lone surrogate": ("POST", "/v3/memories/add/", '{"messages": "\\udc00", "user_id": "b"}'),
    "NaN": ("POST", "/v3/memories/add/", f'{{"messages": {_MESSAGE}, "timestamp": NaN}}'),
    "1e999": ("POST", "/v3/memories/search/", '{"query": "x", "threshold": 1e999}'),
    "deep": ("POST", "/v3/memories/", '{"filters": ' + '{"AND": [' * 5_000 + "]}" * 5_000 + "}"),
    "huge page": (
        "POST",
        "/v3/memories/?page=99999999999999999999",
        '{"filters": {"user_id": "b"}}',
    ),
    "huge page size": ("POST", "/v3/memories/?page_size=100000", '{"filters": {"user_id": "b"}}'),
    "negative page": ("POST", "/v3/memories/?page=-1", '{"filters": {"user_id": "b"}}'),
    "huge top_k": (
        "POST",
        "/v3/memories/search/",
        '{"query": "x", "user_id": "b", "top_k": 1000000}',
    ),
    "unknown filter": ("POST", "/v3/memories/", '{"filters": {"user_id": "b", "color": "red"}}'),
    "unknown field": (
        "POST",
        "/v3/memories/search/",
        '{"query": "x", "user_id": "b", "colour": 1}',
    ),
    "operator of SQL": ("POST", "/v3/memories/", '{"filters": {"user_id": {"; DROP": "b"}}}'),
    "id as object": ("POST", "/v3/memories/", '{"filters": {"user_id": {"eq": {"$ne": null}}}}'),
    "many users": (
        "POST",
        "/v3/memories/",
        json.dumps({"filters": {"user_id": [*map(str, range(99))]}}),
    ),
    "all users": ("POST", "/v3/memories/", '{"filters": {"user_id": "*"}}'),
    "blank query": ("POST", "/v3/memories/search/", '{"query": "  ", "user_id": "b"}'),
    "NUL in a filter": ("POST", "/v3/memories/", '{"filters": {"user_id": "b\\u0000"}}'),
    "NUL in metadata": (
        "POST",
        "/v3/memories/",
        '{"filters": {"user_id": "b", "metadata": {"a\\u0000": 1}}}',
    ),
    "huge number": (
        "POST",
        "/v3/memories/",
        '{"filters": {"user_id": "b", "metadata": {"n": 1e300}}}',
    ),
    "empty batch": ("PUT", "/v1/batch/", '{"memories": []}'),
    "batch of nothing": ("PUT", "/v1/batch/", '{"memories": [{"memory_id": "x"}]}'),
    "unknown parameter": ("DELETE", "/v1/memories/?user=b", ""),
    "repeated parameter": ("DELETE", "/v1/memories/?user_id=b&user_id=c", ""),
    "all users deleted": ("DELETE", "/v1/memories/?user_id=*", ""),
    "filters as code": ("DELETE", "/v1/memories/?filters=__import__('os')", ""),
    "deep filters": ("DELETE", "/v1/memories/?filters=" + "[" * 1_900, ""),
    "NUL in an entity": ("DELETE", "/v2/entities/user/a%00b/", ""),
    "no event": ("GET", "/v1/event/evt_AAAA/", ""),
    "long event": ("GET", "/v1/event/evt_" + "A" * 20_000 + "/", ""),
    "no memory": ("GET", "/v1/memories/..%2F..%2Fetc/", ""),
    "no slash": ("GET", "/v1/ping", ""),
    "no route": ("GET", "/v9/memories/", ""),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_input_gets_a_clear_error_in_mem0s_form(ground: Ground, name: str) -> None:
    method, path, body = HOSTILE[name]
    key = await ground.door.key(*EVERY_PERMISSION, project_id="forum")
    async with mem0(ground.door, key) as client:
        answer = await client.request(
            method,
            f"/mem0{path}",
            content=body.encode(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in (400, 404, 501), answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["detail"]
        assert answer.json()["code"]
        assert (await client.get("/mem0/v1/ping/")).status_code == 200


async def test_other_media_and_large_bodies_get_mem0s_form(ground: Ground) -> None:
    key = await ground.door.key(*EVERY_PERMISSION, project_id="forum")
    async with mem0(ground.door, key) as client:
        answer = await client.post(
            "/mem0/v3/memories/add/", content=b"x", headers={"Content-Type": "text/plain"}
        )
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
        large = {"query": "x" * 300_000, "user_id": BOB}
        answer = await client.post("/mem0/v3/memories/search/", json=large)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["content-type"] == "application/json"


async def test_every_answer_keeps_to_the_document(ground: Ground) -> None:
    key = await ground.door.key(*EVERY_PERMISSION, project_id="schemathesis")
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        *("--config-file", str(HOOKS / "schemathesis.toml"), "run", "--no-color"),
        *("--max-time", "10", "--max-examples", "3"),
        *("--header", f"Authorization: Bearer {key}"),
        f"{ground.door.stack.base_url}/mem0/openapi.json",
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "PYTHONPATH": str(HOOKS),
    }
    ended = await asyncio.to_thread(
        lambda: subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            cwd=ground.door.stack.settings.data_dir,
            timeout=150,
            check=False,
        )
    )
    assert ended.returncode == 0, ended.stdout[-8_000:] + ended.stderr[-2_000:]
    assert re.search(r"(\d+) generated", ended.stdout), ended.stdout[-2_000:]
