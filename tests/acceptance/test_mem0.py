"""mem0's routes over HTTP, against a real service: shapes, paging, filters, errors."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.service import until_idle

from luma_memory.domain.access import EVERY_PERMISSION

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENDED = ("SUCCEEDED", "FAILED")
MISSING = "0198f3a2-7c11-7abc-9def-0123456789ab"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(tmp_path_factory.mktemp("mem0") / "data") as door:
        yield door


@asynccontextmanager
async def mem0(door: KeyedService, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"{door.stack.base_url}/mem0",
        headers={"Authorization": f"Token {key}"},
        trust_env=False,
        timeout=60,
    ) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(door: KeyedService) -> AsyncIterator[httpx2.AsyncClient]:
    async with mem0(door, await door.key(*EVERY_PERMISSION)) as opened:
        yield opened


def user() -> str:
    return f"user-{uuid4().hex[:12]}"


async def add(client: httpx2.AsyncClient, text: str, **fields: Any) -> str:
    """Store one memory as given; its id."""
    body = {"messages": [{"role": "user", "content": text}], "infer": False, **fields}
    response = await client.post("/v3/memories/add/", json=body)
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    assert (result["event"], result["data"]) == ("ADD", {"memory": text})
    return str(result["id"])


async def texts(client: httpx2.AsyncClient, filters: dict[str, Any], **fields: Any) -> list[str]:
    response = await client.post("/v3/memories/", json={"filters": filters, **fields})
    assert response.status_code == 200, response.text
    return sorted(one["memory"] for one in response.json()["results"])


async def ended(client: httpx2.AsyncClient, event_id: str) -> dict[str, Any]:
    """The event once it has ended; it only ever moves forward."""
    order = ["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]
    last = 0
    async with asyncio.timeout(120):
        while True:
            event: dict[str, Any] = (await client.get(f"/v1/event/{event_id}/")).json()
            assert order.index(event["status"]) >= last
            last = order.index(event["status"])
            if event["status"] in ENDED:
                return event
            await asyncio.sleep(0.05)


async def test_an_added_conversation_is_found_and_its_event_succeeds(
    client: httpx2.AsyncClient,
) -> None:
    name = user()
    body = {
        "messages": [
            {"role": "system", "content": "You are a travel agent."},
            {"role": "user", "content": "I moved to Lisbon and bought a red bicycle."},
            {"role": "assistant", "content": "Congratulations on the bicycle!"},
        ],
        "user_id": name,
        "agent_id": "guide",
        "run_id": "chat-1",
        "app_id": "web",
        "metadata": {"channel": "chat"},
    }
    added = (await client.post("/v3/memories/add/", json=body)).json()
    assert (added["status"], sorted(added)) == ("PENDING", ["event_id", "message", "status"])
    found = await client.post(
        "/v3/memories/search/", json={"query": "red bicycle", "filters": {"user_id": name}}
    )
    first = found.json()["results"][0]
    assert first["memory"] == "I moved to Lisbon and bought a red bicycle."
    assert 0 <= first["score"] <= 1
    event = await ended(client, added["event_id"])
    assert event["status"] == "SUCCEEDED"
    assert [one["memory"] for one in event["results"]] == [
        "I moved to Lisbon and bought a red bicycle.",
        "Congratulations on the bicycle!",
    ]
    memory = (await client.get(f"/v1/memories/{first['id']}/")).json()
    assert memory["categories"]  # it was enriched
    assert {
        name: memory[name] for name in ("user_id", "agent_id", "run_id", "app_id", "metadata")
    } == {
        "user_id": name,
        "agent_id": "guide",
        "run_id": "chat-1",
        "app_id": "web",
        "metadata": {"channel": "chat", "app_id": "web"},
    }


async def test_items_are_no_memories(door: KeyedService, client: httpx2.AsyncClient) -> None:
    """An application may use both; a store's records must not turn up among the memories."""
    name = user()
    await add(client, "I keep bees.", user_id=name)
    async with door.client(await door.key(*EVERY_PERMISSION)) as rest:
        item = {"user_id": name, "namespace": ["files"], "key": "bees", "value": {"text": "Bees!"}}
        assert (await rest.put("/items", json=item)).status_code == 201
        assert await texts(client, {"user_id": name}) == ["I keep bees."]
        query = {"query": "bees", "filters": {"user_id": name}}
        for path in ("/v3/memories/search/", "/search"):
            found = await client.post(path, json={**query, "user_id": name})
            assert [one["memory"] for one in found.json()["results"]] == ["I keep bees."], path
        listed = (await client.get("/memories", params={"user_id": name})).json()
        assert [one["memory"] for one in listed["results"]] == ["I keep bees."]
        gone = await client.delete("/v1/memories/", params={"user_id": name})
        assert gone.status_code == 200
        key = {"user_id": name, "namespace": "files", "key": "bees"}
        assert (await rest.get("/items", params=key)).status_code == 200


async def test_a_search_narrows_by_threshold_fields_and_top_k(
    door: KeyedService, client: httpx2.AsyncClient
) -> None:
    name = user()
    for text in ("I play the cello every evening.", "My cello is from Cremona.", "It rains."):
        await add(client, text, user_id=name)
    async with door.client(None) as health:
        await until_idle(health)  # with their vectors

    async def found(**fields: Any) -> list[dict[str, Any]]:
        body = {"query": "cello", "user_id": name, **fields}
        response = await client.post("/v3/memories/search/", json=body)
        assert response.status_code == 200, response.text
        results: list[dict[str, Any]] = response.json()["results"]
        return results

    assert len(await found(top_k=1)) == 1
    assert all("cello" in one["memory"] for one in await found(threshold=0.5))
    assert len(await found(threshold=0.5)) == 2
    assert set((await found(fields=["memory"]))[0]) == {"id", "memory"}


async def test_numbered_pages_have_each_memory_once(client: httpx2.AsyncClient) -> None:
    name = user()
    for number in range(5):
        await add(client, f"Note number {number}.", user_id=name)
    seen: list[str] = []
    url: str | None = "/v3/memories/?page=1&page_size=2"
    while url is not None:
        page = (await client.post(url, json={"filters": {"user_id": name}})).json()
        assert page["count"] == 5
        seen += [one["memory"] for one in page["results"]]
        url = page["next"]
    assert seen == [f"Note number {number}." for number in reversed(range(5))]
    assert page["previous"].endswith("page=2&page_size=2")
    beyond = await client.post("/v3/memories/?page=9", json={"filters": {"user_id": name}})
    assert beyond.json()["results"] == []


async def test_filters_combine(client: httpx2.AsyncClient) -> None:
    ana, bob, agent = user(), user(), user()
    await add(client, "one", user_id=ana, run_id="r1", metadata={"team": "blue", "n": 1})
    await add(client, "two", user_id=ana, run_id="r2", agent_id=agent)
    await add(client, "three", user_id=bob, app_id="web")
    await add(client, "four", agent_id=agent, timestamp=1_577_836_800)
    assert await texts(client, {"user_id": ana}) == ["one", "two"]
    assert await texts(client, {"AND": [{"user_id": ana}, {"run_id": "r1"}]}) == ["one"]
    assert await texts(client, {"OR": [{"user_id": ana}, {"user_id": bob}]}) == [
        "one",
        "three",
        "two",
    ]
    assert await texts(client, {"AND": [{"user_id": ana}, {"NOT": [{"run_id": "r1"}]}]}) == ["two"]
    assert await texts(client, {"user_id": ana, "agent_id": "*"}) == ["two"]
    assert await texts(client, {"user_id": ana, "metadata": {"team": "blue"}}) == ["one"]
    assert await texts(client, {"user_id": ana, "metadata": {"n": {"gt": 1}}}) == []
    assert await texts(client, {"user_id": bob, "app_id": "web"}) == ["three"]
    # Without a user, the memories of the agent itself.
    assert await texts(client, {"agent_id": agent}) == ["four"]
    assert await texts(client, {"OR": [{"agent_id": agent}, {"user_id": bob}]}) == ["four", "three"]
    assert await texts(client, {"agent_id": agent}, end_date="2020-12-31") == ["four"]
    assert await texts(client, {"agent_id": agent}, start_date="2021-01-01") == []
    assert await texts(client, {}, user_id=ana, run_id="r2") == ["two"]


async def test_expired_memories_are_listed_on_request_only(client: httpx2.AsyncClient) -> None:
    name = user()
    await add(client, "old", user_id=name, expiration_date="2020-01-01")
    kept = await add(client, "new", user_id=name, expiration_date="2999-01-01")
    assert await texts(client, {"user_id": name}) == ["new"]
    assert await texts(client, {"user_id": name}, show_expired=True) == ["new", "old"]
    assert (await client.get(f"/v1/memories/{kept}/")).json()["expiration_date"] == "2999-01-01"


async def test_an_update_is_in_the_history(client: httpx2.AsyncClient) -> None:
    name = user()
    memory_id = await add(client, "I live in Faro.", user_id=name, app_id="web")
    changed = await client.put(
        f"/v1/memories/{memory_id}/",
        json={"text": "I live in Porto.", "metadata": {"k": 2}, "timestamp": 1_700_000_000},
    )
    assert changed.status_code == 200, changed.text
    memory = changed.json()
    assert (memory["memory"], memory["metadata"]) == (
        "I live in Porto.",
        {"app_id": "web", "k": 2},
    )
    assert memory["created_at"] == "2023-11-14T22:13:20+00:00"
    history = (await client.get(f"/v1/memories/{memory_id}/history/")).json()
    assert [(one["event"], one["old_memory"], one["new_memory"]) for one in history] == [
        ("ADD", None, "I live in Faro."),
        ("UPDATE", "I live in Faro.", "I live in Porto."),
    ]
    cleared = await client.put(f"/v1/memories/{memory_id}/", json={"expiration_date": None})
    assert cleared.json()["expiration_date"] is None


async def test_batches_change_all_or_nothing_if_one_is_missing(client: httpx2.AsyncClient) -> None:
    name, other = user(), user()
    ids = [await add(client, "a", user_id=name), await add(client, "b", user_id=other)]
    body = {"memories": [{"memory_id": one, "text": f"{n}"} for n, one in enumerate(ids)]}
    missing = {"memories": [*body["memories"], {"memory_id": MISSING, "text": "x"}]}
    refused = await client.put("/v1/batch/", json=missing)
    assert (refused.status_code, refused.json()["code"]) == (404, "memory_not_found")
    assert MISSING in refused.json()["detail"]
    assert await texts(client, {"user_id": name}) == ["a"]
    assert (await client.put("/v1/batch/", json=body)).json() == {
        "message": "Successfully updated 2 memories"
    }
    assert await texts(client, {"user_id": {"in": [name, other]}}) == ["0", "1"]
    refused = await client.request("DELETE", "/v1/batch/", json={"memories": missing["memories"]})
    assert refused.status_code == 400  # an update's fields are none of a deletion's
    gone = {"memories": [{"memory_id": one} for one in [*ids, ids[0]]]}
    deleted = await client.request("DELETE", "/v1/batch/", json=gone)
    assert deleted.json() == {"message": "Successfully deleted 2 memories"}
    assert await texts(client, {"user_id": {"in": [name, other]}}) == []


async def test_a_deletion_takes_what_was_superseded_on_request(
    door: KeyedService, client: httpx2.AsyncClient
) -> None:
    name = user()
    said = ["My dog is brown.", "Porto lies on the Douro.", "Bees hum.", "Rain is wet."]
    ids = [await add(client, text, user_id=name) for text in said]
    connection = await asyncpg.connect(door.stack.database_url)
    try:
        for old, new in itertools.pairwise(ids[:3]):
            await connection.execute(
                "UPDATE memory_blocks SET superseded_by = $1, superseded_at = now() WHERE id = $2",
                *(new, old),
            )
    finally:
        await connection.close()
    assert await texts(client, {"user_id": name}, latest_only=True) == said[2:]
    gone = await client.delete(f"/v1/memories/{ids[2]}/?delete_linked=true")
    assert gone.json() == {"message": "Memory deleted successfully!"}
    assert await texts(client, {"user_id": name}) == said[3:]
    assert (await client.delete(f"/v1/memories/{ids[2]}/")).status_code == 404


async def test_delete_all_deletes_what_it_names_and_nothing_else(
    client: httpx2.AsyncClient,
) -> None:
    name = user()
    for number in range(120):  # more than one batch
        await add(client, f"{number}", user_id=name, run_id="gone")
    await add(client, "kept", user_id=name, run_id="kept")
    await add(client, "expired", user_id=name, run_id="gone", expiration_date="2020-01-01")
    for nothing in ("/v1/memories/", "/v1/memories/?user_id=", "/v1/memories/?filters={}"):
        refused = await client.delete(nothing)
        assert (refused.status_code, refused.json()["code"]) == (400, "entity_missing"), nothing
    done = await client.delete("/v1/memories/", params={"user_id": name, "run_id": "gone"})
    assert done.json() == {"message": "Memories deleted successfully!"}
    assert await texts(client, {"user_id": name}, show_expired=True) == ["kept"]
    # As mem0's Python client sends its typed options.
    done = await client.delete("/v1/memories/", params={"filters": str({"user_id": name})})
    assert done.status_code == 200, done.text
    assert await texts(client, {"user_id": name}) == []


async def test_entities_are_listed_and_deleted(door: KeyedService) -> None:
    async with mem0(door, await door.key(*EVERY_PERMISSION, project_id="entities")) as client:
        await add(client, "one", user_id="ana", agent_id="bot", run_id="r")
        await add(client, "two", user_id="bob", agent_id="bot", app_id="web")
        await add(client, "three", agent_id="bot")
        await add(client, "four", run_id="alone")
        page = (await client.get("/v1/entities/?page_size=50")).json()
        assert [(one["type"], one["name"], one["total_memories"]) for one in page["results"]] == [
            ("user", "ana", 1),
            ("user", "bob", 1),
            ("agent", "bot", 3),
            ("app", "web", 1),
            ("run", "alone", 1),
            ("run", "r", 1),
        ]
        assert page["count"] == 6
        gone = await client.delete("/v2/entities/agent/bot/")
        assert gone.json() == {"message": "Entity deleted successfully!", "deleted": 3}
        assert await texts(client, {"user_id": {"in": ["ana", "bob"]}}) == []
        assert (await client.delete("/v2/entities/user/ana/")).status_code == 200
        assert (await client.delete("/v2/entities/run/alone/")).json()["deleted"] == 1
        assert (await client.get("/v1/entities/")).json()["count"] == 0
        # Again: nothing is left, and that is no error.
        assert (await client.delete("/v2/entities/agent/bot/")).json()["deleted"] == 0
        refused = await client.delete("/v2/entities/king/x/")
        assert refused.status_code == 400


async def test_the_open_source_routes(client: httpx2.AsyncClient) -> None:
    name = user()
    body = {
        "messages": [{"role": "user", "content": "I keep bees."}],
        "user_id": name,
        "metadata": {"topic": "garden"},
    }
    (added,) = (await client.post("/memories", json=body)).json()["results"]
    assert (added["memory"], added["event"]) == ("I keep bees.", "ADD")
    (again,) = (await client.post("/memories", json=body)).json()["results"]
    assert (again["id"], again["event"]) == (added["id"], "NOOP")
    listed = (await client.get("/memories", params={"user_id": name})).json()["results"]
    assert [one["id"] for one in listed] == [added["id"]]
    query = {"query": "bees", "user_id": name, "filters": {"topic": "garden"}}
    found = (await client.post("/search", json=query)).json()["results"]
    assert [one["id"] for one in found] == [added["id"]]
    path = f"/memories/{added['id']}"
    assert (await client.put(path, json={"text": "I keep goats."})).status_code == 200
    assert (await client.get(path)).json()["memory"] == "I keep goats."
    assert len((await client.get(f"{path}/history")).json()) == 2
    assert (await client.delete(path)).status_code == 200
    assert (await client.delete("/memories", params={"user_id": name})).status_code == 200


async def test_a_key_of_one_user_needs_no_ids(door: KeyedService) -> None:
    key = await door.key("ingest", "read", user_id="carol")
    async with mem0(door, key) as client:
        await add(client, "mine", agent_id="bot")
        assert await texts(client, {}) == ["mine"]
        assert await texts(client, {"agent_id": "bot"}) == ["mine"]
        assert (await client.get("/v1/entities/")).json()["count"] == 2
        refused = await client.post("/v3/memories/", json={"filters": {"user_id": "ana"}})
        assert (refused.status_code, refused.json()["code"]) == (403, "user_not_allowed")
        assert (await client.delete("/v1/memories/")).status_code == 400


async def test_an_idempotency_key_adds_once(client: httpx2.AsyncClient) -> None:
    name, headers = user(), {"Idempotency-Key": uuid4().hex}
    body = {"messages": [{"role": "user", "content": "once"}] * 2, "user_id": name}
    first = await client.post("/v3/memories/add/", json=body, headers=headers)
    second = await client.post("/v3/memories/add/", json=body, headers=headers)
    assert first.json()["event_id"] == second.json()["event_id"]
    other = await client.post(
        "/v3/memories/add/", json={**body, "metadata": {"k": 1}}, headers=headers
    )
    assert (other.status_code, other.json()["code"]) == (400, "idempotency_key_reused")


async def test_ping(client: httpx2.AsyncClient, door: KeyedService) -> None:
    assert (await client.get("/v1/ping/")).json() == {
        "status": "ok",
        "org_id": "luma-memory",
        "project_id": "default",
        "user_email": None,
    }
    async with mem0(door, await door.key("ingest")) as writer:
        assert (await writer.get("/v1/ping/")).status_code == 200
    async with mem0(door, "m0-" + "x" * 40) as stranger:
        refused = await stranger.get("/v1/ping/")
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/json"
        assert refused.json()["code"] == "credentials_invalid"


@pytest.mark.parametrize(
    ("method", "path", "feature"),
    [
        ("POST", "/v1/exports/", "exports by a schema"),
        ("POST", "/v1/exports/get/", "exports by a schema"),
        ("POST", "/v1/summary/", "summaries of exports"),
        ("POST", "/v1/feedback/", "feedback"),
        ("GET", "/v1/events/?page=2", "a list of events"),
        ("GET", "/v2/entities/user/ana/profile/", "profiles"),
        ("POST", "/v2/profiles/jobs/", "profiles"),
        ("GET", "/v2/profiles/settings/", "profiles"),
        ("GET", "/api/v1/orgs/organizations/a/projects/b/?fields=x", "organizations and projects"),
        ("GET", "/api/v1/webhooks/projects/default/", "webhooks"),
        ("POST", "/v2/memories/search/", "the routes of earlier clients"),
        ("POST", "/v1/memories/", "the routes of earlier clients"),
        ("POST", "/reset", "a reset"),
        ("POST", "/configure", "configuration"),
    ],
)
async def test_what_is_not_offered_says_so(
    client: httpx2.AsyncClient, method: str, path: str, feature: str
) -> None:
    response = await client.request(method, path, json={})
    assert (response.status_code, response.json()["code"]) == (501, "not_offered")
    assert feature in response.json()["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {"custom_instructions": "Only food."},
        {"custom_categories": [{"food": "what is eaten"}]},
        {"immutable": True},
        {"enable_graph": True},
        {"structured_data_schema": {"type": "object"}},
        {"messages": [{"role": "user", "content": {"type": "pdf_url", "pdf_url": {"url": "x"}}}]},
    ],
)
async def test_an_option_that_is_not_offered_stores_nothing(
    client: httpx2.AsyncClient, fields: dict[str, Any]
) -> None:
    name = user()
    body = {"messages": [{"role": "user", "content": "x"}], "user_id": name, **fields}
    response = await client.post("/v3/memories/add/", json=body)
    assert (response.status_code, response.json()["code"]) == (501, "not_offered")
    assert await texts(client, {"user_id": name}) == []
