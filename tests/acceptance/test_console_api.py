"""What the console and operators' programs read and change: users, blocks, jobs, keys, history."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers
from tests.support.service import until_idle

from luma_memory.domain.access import EVERY_PERMISSION

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="module")
async def client(
    api: KeyedService, request: pytest.FixtureRequest
) -> AsyncIterator[httpx2.AsyncClient]:
    """Of a project of its own."""
    key = await api.key(*EVERY_PERMISSION, project_id=request.node.name)
    async with api.client(key) as client:
        yield client


async def store(client: httpx2.AsyncClient, user_id: str, count: int = 1, **fields: Any) -> None:
    blocks = [
        {"user_id": user_id, "content": f"{user_id} noted {n}.", "session_id": f"s{n % 2}"} | fields
        for n in range(count)
    ]
    response = await client.post("/blocks/batch", json={"blocks": blocks})
    assert response.json()["rejected"] == 0


async def pages(client: httpx2.AsyncClient, path: str, name: str, **params: str) -> list[Any]:
    """Everything of a list, read one entry a page."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        response = await client.get(path, params={"limit": "1", **params, **cursor})
        assert response.status_code == 200, response.text
        body = response.json()
        found += body[name]
        if body["next_cursor"] is None:
            return found
        cursor = {"cursor": body["next_cursor"]}


async def test_users_are_listed_by_activity_or_id(client: httpx2.AsyncClient) -> None:
    for user_id, count in (("ann", 2), ("Bea", 1), ("anna", 3), ("annæ", 1)):
        await store(client, user_id, count)
    item = {"user_id": "ann", "namespace": ["n"], "key": "k", "value": 1}
    assert (await client.put("/items", json=item)).is_success
    by_activity = await pages(client, "/users", "users")
    assert [one["user_id"] for one in by_activity] == ["ann", "annæ", "anna", "Bea"]
    assert by_activity[0]["counts"]["blocks"] == 2
    assert by_activity[0]["counts"]["items"] == 1
    assert by_activity[0]["counts_limited"] is False
    by_id = await pages(client, "/users", "users", sort="user_id", prefix="ann")
    assert [one["user_id"] for one in by_id] == ["ann", "anna", "annæ"]
    other = (await client.get("/users", params={"limit": "1"})).json()["next_cursor"]
    response = await client.get("/users", params={"cursor": other, "sort": "user_id"})
    assert response.json()["code"] == "bad_cursor"


async def test_sessions_are_listed_with_their_counts(client: httpx2.AsyncClient) -> None:
    await store(client, "ann", 3)
    await store(client, "ann", 1, session_id="latest", occurred_at="2020-01-01T00:00:00Z")
    sessions = await pages(client, "/users/ann/sessions", "sessions")
    assert sessions[0]["session_id"] == "latest"
    assert sessions[0]["last_occurred_at"] == "2020-01-01T00:00:00Z"
    assert {one["session_id"]: one["blocks"] for one in sessions} == {"latest": 1, "s0": 2, "s1": 1}


async def test_sessions_are_found_by_the_beginning_of_their_id(client: httpx2.AsyncClient) -> None:
    for session_id in ("s1", "s10", "S1", "s2", "s%1", "sé"):
        await store(client, "ann", 1, session_id=session_id, content=f"In {session_id}")
    await store(client, "bea", 1, session_id="s1")
    for prefix, expected in (("s1", {"s1", "s10"}), ("s%", {"s%1"}), ("sé", {"sé"}), ("x", set())):
        found = await pages(client, "/users/ann/sessions", "sessions", prefix=prefix)
        assert {one["session_id"] for one in found} == expected
    query = {"limit": "1", "prefix": "s1"}
    cursor = (await client.get("/users/ann/sessions", params=query)).json()["next_cursor"]
    other = await client.get("/users/ann/sessions", params={"cursor": cursor, "prefix": "s"})
    assert other.json()["code"] == "bad_cursor"


async def test_the_terms_of_a_user_are_counted_by_block(client: httpx2.AsyncClient) -> None:
    texts = ("The garden needs water.", "The garden has roses.", "A train to Porto.")
    for day, content in enumerate(texts, start=1):
        at = f"2026-03-0{day}T00:00:00Z"
        await store(client, "ann", 1, content=content, occurred_at=at, external_id=str(day))
    await store(client, "bea", 1, content="The garden of another user.")
    await until_idle(client)
    blocks = (await client.get("/blocks", params={"user_id": "ann"})).json()["blocks"]
    tags = Counter(tag for block in blocks for tag in set(block["tags"]))
    profile = (await client.get("/users/ann/terms")).json()
    assert tags["garden"] == 2
    assert {one["term"]: one["blocks"] for one in profile["terms"]} == tags
    counts = [one["blocks"] for one in profile["terms"]]
    assert counts == sorted(counts, reverse=True)
    (garden,) = (one for one in profile["terms"] if one["term"] == "garden")
    assert garden["last_occurred_at"] == "2026-03-02T00:00:00Z"
    assert (profile["blocks"], profile["limited"]) == (3, False)
    found = await pages(client, "/blocks", "blocks", filters='{"tags": "garden"}', user_id="ann")
    assert len(found) == garden["blocks"]
    assert (await client.get("/users/nobody/terms")).json()["terms"] == []
    assert (await client.get("/users/ann/terms", params={"limit": "1"})).json()["terms"] == [
        profile["terms"][0]
    ]


async def test_a_key_of_one_user_sees_this_user_alone(
    api: KeyedService, client: httpx2.AsyncClient, request: pytest.FixtureRequest
) -> None:
    for user_id in ("ann", "bea"):
        await store(client, user_id)
    key = await api.key(*EVERY_PERMISSION, project_id=request.node.name, user_id="bea")
    async with api.client(key) as of_bea:
        assert [u["user_id"] for u in (await of_bea.get("/users")).json()["users"]] == ["bea"]
        blocks = (await of_bea.get("/blocks")).json()["blocks"]
        assert [block["user_id"] for block in blocks] == ["bea"]
        dry = await of_bea.post("/blocks/delete", json={"all": True, "dry_run": True})
        assert dry.json()["matched"] == 1
        made = await of_bea.post("/keys", json={"permissions": ["read"]})
        assert made.json()["user_id"] == "bea"
        keys = (await of_bea.get("/keys")).json()["keys"]
        assert {key["user_id"] for key in keys} == {"bea"}
        assert [key["is_current"] for key in keys] == [False, True]
        for response in (
            await of_bea.get("/users/ann/sessions"),
            await of_bea.get("/users/ann/terms"),
            await of_bea.post("/keys", json={"permissions": ["read"], "user_id": "ann"}),
            await of_bea.get("/metrics/history"),
            await of_bea.get("/providers"),
        ):
            assert (response.status_code, response.json()["code"]) == (403, "user_not_allowed")


async def test_blocks_are_listed_by_the_filters_of_search(client: httpx2.AsyncClient) -> None:
    await store(client, "ann", 3, source="mail")
    await store(client, "bea", 2, source="chat", metadata={"team": "blue"})
    mail = await pages(client, "/blocks", "blocks", filters=json.dumps({"source": "mail"}))
    assert [block["user_id"] for block in mail] == ["ann"] * 3
    assert mail == sorted(mail, key=lambda block: str(block["id"]), reverse=True)
    not_blue = json.dumps({"NOT": {"metadata.team": "blue"}})
    assert len(await pages(client, "/blocks", "blocks", filters=not_blue)) == 3
    assert await pages(client, "/blocks", "blocks", filters=not_blue, user_id="bea") == []
    assert len(await pages(client, "/blocks", "blocks", session_id="s0", user_id="ann")) == 2
    for wrong in ("[]", "{", '{"nothing": 1}', '{"source": NaN}', '{"source": "\\ud800"}'):
        response = await client.get("/blocks", params={"filters": wrong})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_filter")


async def test_blocks_are_deleted_after_a_dry_run_only(client: httpx2.AsyncClient) -> None:
    await store(client, "ann", 3, source="mail")
    await store(client, "ann", 1)
    await store(client, "bea", 2, source="mail")
    await until_idle(client)

    async def delete(**body: Any) -> tuple[int, Any]:
        response = await client.post("/blocks/delete", json={"filters": {"source": "mail"}} | body)
        return response.status_code, response.json()

    _, dry = await delete(dry_run=True)
    assert (dry["matched"], dry["deleted"]) == (5, 0)
    _, of_ann = await delete(dry_run=True, user_id="ann")
    for confirmation, code in (
        (None, "confirmation_missing"),
        ("x", "confirmation_invalid"),
        (of_ann["confirmation"], "confirmation_invalid"),
    ):
        status, problem = await delete(confirmation=confirmation)
        assert (status, problem["code"]) == (422, code)
    # Stored after the dry run, so not part of it.
    await store(client, "ann", 1, source="mail", content="Late.")
    assert (await delete(confirmation=dry["confirmation"]))[1]["deleted"] == 5
    assert {block["content"] for block in await pages(client, "/blocks", "blocks")} == {
        "Late.",
        "ann noted 0.",
    }
    assert (await delete(confirmation=dry["confirmation"]))[1]["code"] == "confirmation_outdated"
    without_condition: list[dict[str, Any]] = [{}, {"filters": {}}, {"all": False}]
    for nothing in without_condition:
        unnamed = await client.post("/blocks/delete", json={**nothing, "dry_run": True})
        assert unnamed.json()["code"] == "filter_missing"


async def test_an_edit_invalidates_the_confirmation(client: httpx2.AsyncClient) -> None:
    await store(client, "ann", 2)
    await until_idle(client)
    dry = (await client.post("/blocks/delete", json={"user_id": "ann", "dry_run": True})).json()
    block = (await client.get("/blocks")).json()["blocks"][0]
    path = f"/blocks/{block['id']}?user_id=ann"
    assert (await client.patch(path, json={"source": "edited"})).is_success
    body = {"user_id": "ann", "confirmation": dry["confirmation"]}
    response = await client.post("/blocks/delete", json=body)
    assert (response.status_code, response.json()["code"]) == (409, "confirmation_outdated")
    assert len(await pages(client, "/blocks", "blocks")) == 2


async def test_jobs_are_counted_before_they_are_cancelled(
    api: KeyedService, client: httpx2.AsyncClient, request: pytest.FixtureRequest
) -> None:
    operator = await api.key(*EVERY_PERMISSION)
    async with api.client(operator) as operating:
        await operating.post("/jobs/pause", json={})
        await store(client, "ann", 3)
        await store(client, "bea", 1)
        filters = {"user_id": "ann", "status": "pending"}
        dry = (await client.post("/jobs/cancel", json={**filters, "dry_run": True})).json()
        assert dry == {"cancelled": 0, "ids": [], "more": False, "dry_run": True, "matched": 3}
        done = (await client.post("/jobs/cancel", json={**filters, "limit": 2})).json()
        assert (done["cancelled"], done["more"]) == (2, True)
        assert (await client.post("/jobs/cancel", json=filters)).json()["cancelled"] == 1
        assert (await client.post("/jobs/cancel", json={})).json()["code"] == "filter_missing"
        retry = {"ids": done["ids"], "dry_run": True}
        assert (await client.post("/jobs/retry", json=retry)).json()["matched"] == 2
        await operating.post("/jobs/resume", json={})


async def test_a_key_cannot_grant_more_than_it_has(
    api: KeyedService, client: httpx2.AsyncClient, request: pytest.FixtureRequest
) -> None:
    made = await client.post("/keys", json={"permissions": ["admin", "read"], "name": "console"})
    assert made.status_code == 201
    body = made.json()
    assert body["key"].startswith(body["prefix"])
    listed = (await client.get("/keys")).json()["keys"]
    assert listed[0] == {**body, "key": None}
    assert body["key"] not in json.dumps(listed)
    async with api.client(body["key"]) as limited:
        response = await limited.post("/keys", json={"permissions": ["ingest"]})
        assert (response.status_code, response.json()["code"]) == (403, "permission_missing")
        assert (await limited.get("/users")).status_code == 200
    foreign = await api.key("admin", project_id="another")
    async with api.client(foreign) as other:
        response = await other.delete(f"/keys/{body['prefix']}")
        assert (response.status_code, response.json()["code"]) == (404, "key_not_found")
    revoked = (await client.delete(f"/keys/{body['prefix']}")).json()
    assert revoked["revoked_at"] is not None
    assert revoked == (await client.delete(f"/keys/{body['prefix']}")).json()
    keys = await pages(client, "/keys", "keys", include_revoked="true")
    assert [key["revoked_at"] is None for key in keys] == [False, True]


async def test_the_first_key_can_create_others(servers: Servers) -> None:
    async with (
        running_keyed_service(servers, first_key=False, embedding_enabled=False) as api,
        api.client(None) as client,
    ):
        for wrong in ({"permissions": ["read"]}, {"permissions": ["admin"], "user_id": "ann"}):
            response = await client.post("/keys", json=wrong)
            assert (response.status_code, response.json()["code"]) == (409, "first_key_not_admin")
        made = await client.post("/keys", json={"permissions": list(EVERY_PERMISSION)})
        async with api.client(made.json()["key"]) as keyed:
            assert (await keyed.post("/keys", json={"permissions": ["read"]})).status_code == 201


async def test_credentials_describe_themselves(
    api: KeyedService, client: httpx2.AsyncClient, request: pytest.FixtureRequest
) -> None:
    made = await client.post("/keys", json={"permissions": ["read"], "name": "n", "user_id": "ann"})
    async with api.client(made.json()["key"]) as limited:
        assert (await limited.get("/keys/current")).json() == {
            "project_id": request.node.name,
            "user_id": "ann",
            "permissions": ["read"],
            "prefix": made.json()["prefix"],
            "name": "n",
            "authenticated": True,
        }


async def test_settings_are_shown_without_secrets(
    api: KeyedService, client: httpx2.AsyncClient
) -> None:
    assert (await client.get("/settings")).json()["code"] == "project_not_allowed"
    async with api.client(await api.key("admin")) as operator:
        response = await operator.get("/settings")
    found = {one["name"]: one for one in response.json()["settings"]}
    assert api.stack.database_url not in response.text
    database, top = found["DATABASE_URL"], found["MEMORY_WORKER_MAX_CONCURRENT_JOBS"]
    assert (database["is_secret"], database["is_set"], database["value"]) == (True, True, None)
    assert (top["default"], top["value"] is not None, top["is_secret"]) == ("5", True, False)
