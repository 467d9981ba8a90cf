"""The whole flow over every route of a service, with users in several partitions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2
from tests.fakes.webhook_receiver import WebhookReceiver
from tests.support.every_route import RouteClient
from tests.support.partitions import users_of
from tests.support.service import BASE_PATH, until_idle

from luma_memory.cli.processes import Stack
from luma_memory.domain.access import EVERY_PERMISSION
from luma_memory.settings import load_settings

DOCUMENTS = (f"{BASE_PATH}/openapi.json", "/mem0/openapi.json")


class Service:
    """A running service with a key; `routes` notes what was called. users: one a partition."""

    def __init__(
        self, client: httpx2.AsyncClient, routes: RouteClient, users: Sequence[str]
    ) -> None:
        self.client = client  # of the API's base path, for waiting
        self.routes = routes
        self.json = routes.json
        self.users = users

    async def idle(self) -> None:
        await until_idle(self.client)


@asynccontextmanager
async def _running(dsn: str, users: Sequence[str]) -> AsyncIterator[Service]:
    settings = load_settings(
        host="127.0.0.1",
        port=0,
        database_url=dsn,
        webhooks_allow_private=True,
        worker_poll_interval_ms=200,
    )
    stack = Stack(settings, workers=1, on_line=print)  # shown when a test fails
    await stack.start()
    options: dict[str, Any] = {"trust_env": False, "timeout": 60}
    try:
        async with (
            httpx2.AsyncClient(base_url=stack.base_url, **options) as server,
            httpx2.AsyncClient(base_url=stack.base_url + BASE_PATH, **options) as client,
        ):
            routes = RouteClient(server)
            await routes.read_documents(*DOCUMENTS)
            key = await routes.json("POST", "/keys", json={"permissions": [*EVERY_PERMISSION]})
            for one in (server, client):
                one.headers["Authorization"] = f"Bearer {key['key']}"
            yield Service(client, routes, users)
    finally:
        await stack.stop()


async def call_every_route(dsn: str, partitions: int) -> None:
    """With a user of each partition, and mem0's routes with another one of each. Raises
    AssertionError for a wrong response, and for a route that was not called."""
    users = [users_of(number, partitions, 2) for number in range(partitions)]
    first = [one for one, _ in users]
    async with _running(dsn, first) as service:
        async with WebhookReceiver() as receiver:
            hook = await service.json("POST", "/webhooks", json={"url": receiver.url()})
            blocks = await _store(service)
            for user in first:
                await _read(service, user, blocks[user])
                await _items(service, user)
            await _webhooks(service, receiver, hook["id"])
        await _jobs(service, blocks)
        await _lists(service)
        for user in first:
            await _change(service, user, blocks[user])
        for _, second in users:
            await _mem0(service, second)
        for user in first:
            await _erase(service, user)
        await _keys(service)
        assert service.routes.missing == set()


async def _store(service: Service) -> dict[str, list[str]]:
    """Two blocks for each user, and a batch of all."""
    ids: dict[str, list[str]] = {}
    for user in service.users:
        body = {
            "user_id": user,
            "content": f"{user} adopted a grey cat called Tom.",
            "speaker": user,
        }
        body |= {"session_id": "s1", "occurred_at": "2026-03-04T10:00:00Z"}
        ids[user] = [(await service.json("POST", "/blocks", json=body))["id"]]
        repeated = await service.json("POST", "/blocks", json=body)
        assert repeated["id"] == ids[user][0]
    batch = [
        {"user_id": user, "content": f"{user} went to Riga by train."}
        for user in [*service.users] * 2
    ]
    results = (await service.json("POST", "/blocks/batch", json={"blocks": batch}))["results"]
    assert {one["status"] for one in results} <= {"pending_enrichment", "active"}
    for user, one in zip(service.users, results[: len(service.users)], strict=True):
        ids[user].append(one["id"])
    # The second half repeats the first.
    assert [one["id"] for one in results[len(service.users) :]] == [
        ids[user][1] for user in service.users
    ]
    await service.idle()
    return ids


async def _read(service: Service, user: str, blocks: list[str]) -> None:
    whose = {"user_id": user}
    listed = await service.json("GET", "/blocks", params=whose)
    assert {one["id"] for one in listed["blocks"]} == set(blocks)
    assert {one["status"] for one in listed["blocks"]} == {"active"}
    one = await service.json("GET", f"/blocks/{blocks[0]}", params=whose)
    assert "grey cat" in one["content"]
    found = await service.json("POST", "/search", json={**whose, "query": "Which cat was adopted?"})
    assert found["results"][0]["block"]["id"] == blocks[0]
    context = await service.json("POST", "/context", json={**whose, "query": "Which cat?"})
    assert "grey cat" in context["text"]
    await service.json("GET", f"/users/{user}")
    await service.json("PATCH", f"/users/{user}", json={"time_zone": "Europe/Riga"})
    sessions = await service.json("GET", f"/users/{user}/sessions")
    assert [one["session_id"] for one in sessions["sessions"]] == ["s1"]
    await service.json("GET", f"/users/{user}/terms")
    summary = await service.json("POST", "/summaries", json={**whose, "week": "2026-W10"})
    listed = await service.json("GET", "/summaries", params=whose)
    assert [one["id"] for one in listed["summaries"]] == [summary["id"]]
    await service.json("GET", "/relations", params=whose)
    relations = await service.json("GET", f"/blocks/{blocks[0]}/relations", params=whose)
    assert relations["relations"] == []


async def _items(service: Service, user: str) -> None:
    name = {"user_id": user, "namespace": ["notes"], "key": "one"}
    put = {**name, "value": {"text": f"{user} plays chess"}}
    await service.json("PUT", "/items", json=put)
    where = {"user_id": user, "namespace": "notes", "key": "one"}
    assert (await service.json("GET", "/items", params=where))["value"] == put["value"]
    operations = [
        {"op": "put", "namespace": ["notes"], "key": "two", "value": {"n": 2}, "ttl_seconds": 3600},
        {"op": "get", "namespace": ["notes"], "key": "two"},
    ]
    done = await service.json(
        "POST", "/items/batch", json={"user_id": user, "operations": operations}
    )
    assert len(done["results"]) == 2
    await service.idle()
    search = {"user_id": user, "prefix": ["notes"], "query": "chess", "refresh_ttl": True}
    found = await service.json("POST", "/items/search", json=search)
    assert found["items"][0]["key"] == "one"
    spaces = await service.json("GET", "/items/namespaces", params={"user_id": user})
    assert spaces["namespaces"] == [["notes"]]
    await service.json("DELETE", "/items", params=where)


async def _webhooks(service: Service, receiver: WebhookReceiver, hook: str) -> None:
    users = set(service.users)
    await receiver.until(
        lambda: users <= {one.event["data"].get("user_id") for one in receiver.requests}
    )
    await service.json("GET", "/webhooks")
    await service.json("GET", f"/webhooks/{hook}")
    await service.json("PATCH", f"/webhooks/{hook}", json={"description": "for the test"})
    sent = len(receiver.requests)
    await service.json("POST", f"/webhooks/{hook}/test")
    await receiver.until(lambda: len(receiver.requests) > sent)
    page = await service.json("GET", f"/webhooks/{hook}/deliveries", params={"limit": 100})
    chosen = page["deliveries"][0]["id"]
    await service.json("POST", f"/webhooks/{hook}/deliveries/{chosen}/replay")
    await service.idle()
    await service.json("DELETE", f"/webhooks/{hook}")
    stream = await service.json("GET", "/events", params={"wait_seconds": 0})
    assert "id:" in stream


async def _jobs(service: Service, blocks: dict[str, list[str]]) -> None:
    await service.json("POST", "/jobs/pause", json={})
    accepted = [
        await service.json("POST", "/blocks", json={"user_id": user, "content": f"{user} waits."})
        for user in service.users
    ]
    ids = [one["job_id"] for one in accepted]
    assert len(set(ids)) == len(ids)
    for number, user in zip(ids, service.users, strict=True):
        assert (await service.json("GET", f"/jobs/{number}"))["user_id"] == user
        await service.json("POST", f"/jobs/{number}/cancel")
        assert (await service.json("GET", f"/jobs/{number}"))["status"] == "cancelled"
    await service.json("POST", f"/jobs/{ids[0]}/retry")
    await service.json("POST", "/jobs/retry", json={"ids": ids[1:]})
    await service.json("POST", "/jobs/cancel", json={"ids": ids[1:2]})
    await service.json("POST", "/jobs/retry", json={"ids": ids[1:2]})
    await service.json("POST", "/jobs/resume", json={})
    await service.idle()
    for user, one in zip(service.users, accepted, strict=True):
        blocks[user].append(one["id"])
        read = await service.json("GET", f"/blocks/{one['id']}", params={"user_id": user})
        assert read["status"] == "active"


async def _lists(service: Service) -> None:
    jobs = (await service.json("GET", "/jobs", params={"limit": 100}))["jobs"]
    numbers = [job["id"] for job in jobs]
    assert len(numbers) == len(set(numbers))
    assert set(service.users) <= {job["user_id"] for job in jobs}
    assert (await service.json("GET", "/jobs/stats"))["failed"] == 0
    users = (await service.json("GET", "/users", params={"limit": 100}))["users"]
    assert set(service.users) <= {one["user_id"] for one in users}
    for path in ("/cache/stats", "/usage", "/metrics", "/metrics/history", "/settings"):
        await service.json("GET", path)
    for path in ("/providers", "/health", "/health/live", "/health/ready"):
        await service.json("GET", path)


async def _change(service: Service, user: str, blocks: list[str]) -> None:
    whose = {"user_id": user}
    changed = {"content": f"{user} adopted a black dog called Rex."}
    path = f"/blocks/{blocks[0]}"
    edited = await service.json("PATCH", path, params=whose, json=changed)
    assert edited["content"] == changed["content"]
    keyed = {"Idempotency-Key": f"edit-{user}"}
    for _ in range(2):
        again = await service.json(
            "PATCH", path, params=whose, json={"source": "test"}, headers=keyed
        )
        assert again["revision"] == edited["revision"] + 1
    await service.idle()
    found = await service.json("POST", "/search", json={**whose, "query": "a black dog"})
    assert "black dog" in found["results"][0]["block"]["content"]
    revisions = await service.json("GET", f"{path}/revisions", params=whose)
    assert len(revisions["revisions"]) >= 2
    await _relation(service, user, blocks)
    await service.json("DELETE", f"/blocks/{blocks[1]}", params=whose)
    many = {**whose, "ids": [blocks[2]]}
    dry = await service.json("POST", "/blocks/delete", json={**many, "dry_run": True})
    done = await service.json(
        "POST", "/blocks/delete", json={**many, "confirmation": dry["confirmation"]}
    )
    assert done["deleted"] == 1


async def _relation(service: Service, user: str, blocks: list[str]) -> None:
    """Imported, as no model finds one here; then rejected by the user."""
    lines = (await service.json("GET", f"/users/{user}/export")).splitlines()
    end = json.loads(lines[-1])
    end["counts"]["relations"] = 1
    row: dict[str, Any] = {
        "id": str(uuid4()),
        "source_id": blocks[0],
        "target_id": blocks[2],
        "type": "related",
    }
    row |= {"confidence": 0.9, "model": "test", "status": "accepted"}
    lines[-1:] = [json.dumps({"kind": "relations", "row": row}), json.dumps(end)]
    await _import(service, user, "\n".join(lines))
    whose = {"user_id": user}
    (found,) = (await service.json("GET", "/relations", params=whose))["relations"]
    path = f"/relations/{found['id']}"
    await service.json("PATCH", path, params=whose, json={"status": "rejected"})


async def _import(service: Service, user: str, exported: str) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    path = f"/users/{user}/import"
    await service.json("POST", path, content=exported.encode(), headers=headers)


async def _mem0(service: Service, user: str) -> None:
    who = {"user_id": user}
    body = {"messages": [{"role": "user", "content": f"{user} keeps bees."}], "infer": False, **who}
    added = await service.json("POST", "/mem0/v3/memories/add/", json=body)
    memory = added["results"][0]["id"]
    body["messages"] = [{"role": "user", "content": f"{user} keeps hens."}]
    (second,) = (await service.json("POST", "/mem0/memories", json=body))["results"]
    query = {"query": "bees", "filters": who}
    for path in ("/mem0/v3/memories/search/", "/mem0/search"):
        found = await service.json("POST", path, json={**query, **who})
        assert any("bees" in one["memory"] for one in found["results"])
    await service.json("POST", "/mem0/v3/memories/", json={"filters": who})
    await service.json("GET", "/mem0/memories", params=who)
    await service.json("GET", f"/mem0/memories/{memory}")
    await service.json("GET", f"/mem0/v1/memories/{memory}/")
    await service.json("PUT", f"/mem0/memories/{memory}", json={"text": "Two hives."})
    await service.json("PUT", f"/mem0/v1/memories/{memory}/", json={"text": "Three hives."})
    await service.json("GET", f"/mem0/memories/{memory}/history")
    await service.json("GET", f"/mem0/v1/memories/{memory}/history/")
    change = [{"memory_id": memory, "text": "Four hives."}]
    await service.json("PUT", "/mem0/v1/batch/", json={"memories": change})
    body["infer"] = True
    event = await service.json("POST", "/mem0/v3/memories/add/", json=body)
    if "event_id" in event:
        await service.json("GET", f"/mem0/v1/event/{event['event_id']}/")
    await service.json("GET", "/mem0/v1/ping/")
    await service.json("GET", "/mem0/v1/entities/")
    gone = {"memories": [{"memory_id": memory}]}
    await service.json("DELETE", "/mem0/v1/batch/", json=gone)
    await service.json("DELETE", f"/mem0/v1/memories/{second['id']}/")
    (third,) = (await service.json("POST", "/mem0/memories", json={**body, "infer": False}))[
        "results"
    ]
    await service.json("DELETE", f"/mem0/memories/{third['id']}")
    await service.json("DELETE", "/mem0/v1/memories/", params=who)
    await service.json("DELETE", "/mem0/memories", params=who)
    await service.json("DELETE", f"/mem0/v1/entities/user/{user}/")
    await service.json("DELETE", f"/mem0/v2/entities/user/{user}/")


async def _erase(service: Service, user: str) -> None:
    exported = await service.json("GET", f"/users/{user}/export")
    kinds = [json.loads(line)["kind"] for line in exported.splitlines()]
    assert (kinds[0], kinds[-1]) == ("header", "end")
    receipt = await service.json("DELETE", f"/users/{user}")
    assert receipt["counts"]["blocks"] >= 1
    assert (await service.json("GET", "/blocks", params={"user_id": user}))["blocks"] == []
    await _import(service, user, exported)
    await service.idle()
    listed = (await service.json("GET", "/blocks", params={"user_id": user}))["blocks"]
    assert any("black dog" in one["content"] for one in listed)


async def _keys(service: Service) -> None:
    await service.json("GET", "/keys/current")
    made = await service.json("POST", "/keys", json={"permissions": ["read"]})
    listed = await service.json("GET", "/keys")
    assert made["prefix"] in {one["prefix"] for one in listed["keys"]}
    await service.json("DELETE", f"/keys/{made['prefix']}")
