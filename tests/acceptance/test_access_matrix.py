"""Every route there is, with every kind of wrong credentials, wherever a foreign id can stand.

Routes come from the OpenAPI document, so that one which is added later is in here as well.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from tests.support.access_matrix import (
    ADA,
    BOB,
    MARKER,
    Ground,
    Operation,
    ground_for_tests,
    operations,
)
from tests.support.servers import Servers
from tests.support.service import BASE_PATH

from luma_memory.domain.access import EVERY_PERMISSION, Permission

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(servers: Servers) -> AsyncIterator[Ground]:
    async with ground_for_tests(servers) as made:
        yield made


def requests(ground: Ground, operation: Operation, user_id: str) -> Iterator[dict[str, Any]]:
    """Requests of a client that knows Ada's ids: in path, query, body, cursor and filter."""
    values = {"block_id": ground.block_id, "job_id": str(ground.job_id), "user_id": user_id}
    path = operation.path
    for parameter in operation.parameters("path"):
        unknown = "7" if parameter["schema"].get("type") == "integer" else str(uuid4())
        path = path.replace(f"{{{parameter['name']}}}", values.get(parameter["name"], unknown))
    names = {p["name"] for p in operation.parameters("query")}
    query = {"user_id": user_id} if "user_id" in names else {}
    # What else is required names an item of Ada's.
    query |= {name: MARKER for name in names - {"user_id"} if _requires(operation, name)}
    bodies: list[bytes | None] = [*_bodies(ground, operation, user_id)] or [None]
    variants: list[dict[str, str]] = [{}]
    if "cursor" in names:
        variants += [{"cursor": cursor} for cursor in ground.cursors]
    if "session_id" in names:
        variants.append({"session_id": f"{MARKER}-session"})
    if "user_id" in names and not _requires(operation, "user_id"):
        yield {"url": path, "params": {}, "content": bodies[0]}
    for more, body in itertools.product(variants, bodies):
        yield {"url": path, "params": {**query, **more}, "content": body}


def _requires(operation: Operation, name: str) -> bool:
    return any(p["name"] == name and p.get("required") for p in operation.parameters("query"))


def _bodies(ground: Ground, operation: Operation, user_id: str) -> Iterator[bytes]:
    content = operation.definition.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = ground.document["components"]["schemas"][name]
    examples = schema.get("examples") or [{}]
    for example in examples:
        body = dict(example)
        if "user_id" in schema["properties"]:
            body["user_id"] = user_id
        if "query" in schema["properties"]:
            body["query"] = MARKER
        if "ids" in schema["properties"]:
            body = {"ids": [ground.job_id]}
        if "blocks" in schema["properties"]:
            body["blocks"] = [{"user_id": user_id, "content": "Planted."}]
        yield json.dumps(body).encode()


async def responses_of(
    ground: Ground, key: str | None, user_id: str = ADA
) -> AsyncIterator[tuple[Operation, httpx2.Response]]:
    async with ground.api.client(key) as client:
        headers = {"Content-Type": "application/json"}
        for operation in operations(ground):
            for request in requests(ground, operation, user_id):
                if "wait_seconds" in {p["name"] for p in operation.parameters("query")}:
                    request["params"]["wait_seconds"] = "0"
                response = await client.request(operation.method, headers=headers, **request)
                assert response.status_code < 500, f"{operation}: {response.text}"
                yield operation, response


@pytest.mark.parametrize("kind", ["none", "bad", "revoked"])
async def test_invalid_credentials_are_rejected_on_every_route(ground: Ground, kind: str) -> None:
    key = None if kind == "none" else await ground.api.key(*EVERY_PERMISSION, project_id="shop")
    if kind == "bad":
        key = "lmk_" + "a" * 12 + "_" + "b" * 43
    if kind == "revoked":
        assert key is not None
        await ground.api.revoke(key)
    async for operation, response in responses_of(ground, key):
        if operation.permission is None:
            assert response.status_code == 200, str(operation)
        else:
            # Guesses are limited: beyond some the answer does not even say that they are wrong.
            assert response.status_code in (401, 429), f"{operation}: {response.text}"
        assert MARKER not in response.text


@pytest.mark.parametrize("granted", EVERY_PERMISSION)
async def test_another_permission_is_not_enough(ground: Ground, granted: Permission) -> None:
    key = await ground.api.key(granted, project_id="forum")
    async for operation, response in responses_of(ground, key, user_id=BOB):
        if operation.permission == "any":
            assert response.status_code == 200, f"{operation}: {response.text}"
        elif operation.permission not in (None, granted):
            assert response.status_code == 403, f"{operation}: {response.text}"
            assert response.json()["code"] == "permission_missing"
        elif operation.permission == granted and granted != "ingest":
            # Pausing the queue of all projects also needs the project `default`; the new key of
            # the example would permit more than this one.
            needs_more = operation.path in ("/jobs/pause", "/jobs/resume", "/settings")
            needs_more |= (operation.method, operation.path) == ("POST", "/keys")
            assert (response.status_code == 403) == needs_more, f"{operation}: {response.text}"


async def test_another_users_key_sees_and_changes_nothing(ground: Ground) -> None:
    key = await ground.api.key(*EVERY_PERMISSION, project_id="shop", user_id=BOB)
    async for operation, response in responses_of(ground, key):
        assert MARKER not in response.text, f"{operation}: {response.text}"
        if operation.permission is None or "batch" in operation.path:
            continue
        request = response.request
        named = f"{request.url} {request.content.decode()}"
        # Also a cursor is refused before it is looked at.
        if ADA in named.replace(BASE_PATH, "") and not response.is_success:
            assert response.status_code in (403, 404, 422), f"{operation}: {response.text}"
        if f"user_id={ADA}" in named or f'"user_id": "{ADA}"' in named or f"/users/{ADA}" in named:
            assert response.status_code == 403, f"{operation}: {response.text}"
    await ground.assert_untouched()


@pytest.mark.parametrize(
    "path", ["/jobs/stats", "/cache/stats", "/metrics", "/metrics/history", "/providers"]
)
async def test_a_key_of_one_user_reads_no_numbers_over_all_users(ground: Ground, path: str) -> None:
    of_user = await ground.api.key(*EVERY_PERMISSION, project_id="shop", user_id=BOB)
    of_project = await ground.api.key(*EVERY_PERMISSION, project_id="shop")
    async with ground.api.client(of_user) as client:
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (403, "user_not_allowed")
    async with ground.api.client(of_project) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("change", ["pause", "resume"])
async def test_only_the_operator_pauses_the_queue_of_all_projects(
    ground: Ground, change: str
) -> None:
    keys = {
        "user_not_allowed": await ground.api.key(*EVERY_PERMISSION, user_id=BOB),
        "project_not_allowed": await ground.api.key(*EVERY_PERMISSION, project_id="shop"),
        "permission_missing": await ground.api.key("ingest", "read"),
    }
    for code, key in keys.items():
        async with ground.api.client(key) as client:
            response = await client.post(f"/jobs/{change}", json={})
            assert (response.status_code, response.json()["code"]) == (403, code)


async def test_another_projects_key_sees_and_changes_nothing(ground: Ground) -> None:
    key = await ground.api.key(*EVERY_PERMISSION, project_id="forum")
    async for operation, response in responses_of(ground, key):
        echoes = "blocks" in operation.path and operation.method in ("GET", "PATCH")
        assert MARKER not in response.text or (echoes and not response.is_success), (
            f"{operation}: {response.text}"
        )
        if "{block_id}" in operation.path or "{job_id}" in operation.path:
            assert response.status_code in (404, 422), f"{operation}: {response.text}"
        if "cursor=" in str(response.request.url):
            assert response.json()["code"] in ("bad_cursor", "block_not_found"), response.text
    await ground.assert_untouched()


async def test_foreign_and_missing_are_indistinguishable(ground: Ground) -> None:
    key = await ground.api.key("read", project_id="forum")
    async with ground.api.client(key) as client:
        for path, missing in (
            (f"/blocks/{ground.block_id}", f"/blocks/{uuid4()}"),
            (f"/blocks/{ground.block_id}/revisions", f"/blocks/{uuid4()}/revisions"),
            (f"/jobs/{ground.job_id}", "/jobs/999999999"),
        ):
            bodies = []
            for url in (path, missing):
                response = await client.get(url, params={"user_id": ADA})
                bodies.append({**response.json(), "request_id": ""})
            assert bodies[0] == bodies[1]
