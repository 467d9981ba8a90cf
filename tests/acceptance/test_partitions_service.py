"""A service whose users are in two partitions, at two addresses; one may be away or paused."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from tests.fakes.webhook_receiver import Received, WebhookReceiver
from tests.support.load import client_of
from tests.support.partitions import two_servers, users_of
from tests.support.servers import Servers
from tests.support.service import RETRY_SECONDS, until_idle
from tests.support.tcp_proxy import Proxy

from luma_memory.cli.processes import Stack
from luma_memory.postgres.database import Database
from luma_memory.settings import load_settings
from luma_memory.store.partitions import PartitionDirectory

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOME, OTHER = users_of(0, 2, 8), users_of(1, 2, 8)


class Service:
    """A running service, the addresses of its home partition, and the network to the other one."""

    def __init__(self, stack: Stack, home: str, proxy: Proxy, client: httpx2.AsyncClient) -> None:
        self.stack = stack
        self.home = home
        self.proxy = proxy
        self.client = client

    async def json(self, method: str, path: str, **options: Any) -> Any:
        response = await self.client.request(method, path, **options)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def add(self, user: str, content: str, **fields: Any) -> dict[str, Any]:
        body = {"user_id": user, "content": content, **fields}
        accepted: dict[str, Any] = await self.json("POST", "/blocks", json=body)
        return accepted

    async def paged(self, path: str, name: str, **params: Any) -> list[Any]:
        found: list[Any] = []
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = await self.json("GET", path, params={**params, **more})
            found += page[name]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[Service]:
    async with two_servers(servers) as (home, proxy):
        settings = load_settings(
            host="127.0.0.1",
            port=0,
            database_url=home,
            webhooks_allow_private=True,
            worker_poll_interval_ms=200,
        )
        stack = Stack(settings, workers=1)
        await stack.start()
        try:
            async with client_of(stack) as client:
                yield Service(stack, home, proxy, client)
        finally:
            proxy.flows.set()
            await stack.stop()


async def _until(is_reached: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(RETRY_SECONDS):
        while not await is_reached():  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(0.1)


async def test_blocks_of_both_partitions_are_accepted_enriched_and_found(
    service: Service,
) -> None:
    for user in (HOME[0], OTHER[0]):
        await service.add(user, f"{user} adopted a grey cat called Tom.")
    batch = [{"user_id": user, "content": f"{user} went to Riga."} for user in (HOME[0], OTHER[0])]
    results = await service.json("POST", "/blocks/batch", json={"blocks": batch})
    assert [one["status"] for one in results["results"]] == ["pending_enrichment"] * 2
    await until_idle(service.client)
    for user in (HOME[0], OTHER[0]):
        body = {"user_id": user, "query": "Which cat was adopted?"}
        found = await service.json("POST", "/search", json=body)
        assert f"{user} adopted" in found["results"][0]["block"]["content"]
        context = await service.json("POST", "/context", json=body)
        assert "grey cat" in context["text"]
        blocks = await service.paged("/blocks", "blocks", user_id=user, limit=1)
        assert [block["status"] for block in blocks] == ["active"] * 2
        path = f"/blocks/{blocks[0]['id']}?user_id={user}"
        edited = await service.json("PATCH", path, json={"content": f"{user} went to Oslo."})
        assert edited["content"].endswith("Oslo.")
        assert (
            len(
                (await service.json("GET", f"/blocks/{blocks[0]['id']}/revisions?user_id={user}"))[
                    "revisions"
                ]
            )
            >= 1
        )
    await until_idle(service.client)


async def test_lists_over_all_users_have_each_row_once(service: Service) -> None:
    for user in (*HOME[1:3], *OTHER[1:3]):
        await service.add(user, f"{user} likes tea.")
    await until_idle(service.client)
    users = {*HOME[1:3], *OTHER[1:3]}
    for sort in ("last_activity", "user_id"):
        listed = [
            one["user_id"] for one in await service.paged("/users", "users", limit=2, sort=sort)
        ]
        assert len(listed) == len(set(listed))
        assert users <= set(listed)
    jobs = await service.paged("/jobs", "jobs", limit=3)
    ids = [job["id"] for job in jobs]
    assert len(ids) == len(set(ids))
    assert {job["user_id"] for job in jobs} >= users
    assert [job["created_at"] for job in jobs] == sorted(
        (job["created_at"] for job in jobs), reverse=True
    )
    for job in jobs[:2]:
        assert (await service.json("GET", f"/jobs/{job['id']}"))["user_id"] == job["user_id"]
    stats = await service.json("GET", "/jobs/stats")
    assert stats["completed"] == len([job for job in jobs if job["status"] == "completed"])
    blocks = await service.paged("/blocks", "blocks", limit=2)
    keys = [block["id"] for block in blocks]
    assert keys == sorted(set(keys), reverse=True)
    assert {b["user_id"] for b in blocks} >= users


async def test_items_settings_exports_and_erasures_go_to_the_users_partition(
    service: Service,
) -> None:
    for user in (HOME[3], OTHER[3]):
        name = {"user_id": user, "namespace": ["notes"], "key": "one"}
        await service.json("PUT", "/items", json={**name, "value": {"text": f"{user} plays chess"}})
        found = await service.json(
            "POST", "/items/search", json={"user_id": user, "prefix": ["notes"]}
        )
        assert [item["key"] for item in found["items"]] == ["one"]
        await service.json("PATCH", f"/users/{user}", json={"time_zone": "Europe/Riga"})
        assert (await service.json("GET", f"/users/{user}"))["time_zone"] == "Europe/Riga"
        exported = (await service.client.get(f"/users/{user}/export")).text
        kinds = [json.loads(line)["kind"] for line in exported.splitlines()]
        assert kinds[0] == "header"
        assert kinds[-1] == "end"
        assert "blocks" in kinds
        receipt = await service.json("DELETE", f"/users/{user}")
        assert receipt["counts"]["blocks"] == 1
        listed = await service.paged("/users", "users", prefix=user)
        assert user not in {one["user_id"] for one in listed}
        response = await service.client.post(
            f"/users/{user}/import",
            content=exported.encode(),
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert response.is_success, response.text


async def test_events_of_both_partitions_reach_webhooks_and_the_stream_in_order(
    service: Service,
) -> None:
    async with WebhookReceiver() as receiver:
        hook = await service.json("POST", "/webhooks", json={"url": receiver.url()})
        start = (await service.client.get("/events", params={"wait_seconds": 0})).text
        after = [line.split()[1] for line in start.splitlines() if line.startswith("id:")][-1]
        for user in (HOME[4], OTHER[4]):
            await service.add(user, f"{user} moved to Oslo.")
        users = {HOME[4], OTHER[4]}
        await receiver.until(lambda: users <= {_user_of(one) for one in receiver.requests})
        # Recorded after the receiver has responded.
        await _until(lambda: _all_delivered(service, hook["id"]))
        text = (
            await service.client.get("/events", params={"wait_seconds": 0, "after": after})
        ).text
        positions = [int(line.split()[1]) for line in text.splitlines() if line.startswith("id:")]
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data:")]
        assert {e["data"]["user_id"] for e in events} >= {HOME[4], OTHER[4]}
        assert positions == sorted(positions)
        await service.client.delete(f"/webhooks/{hook['id']}")


async def _all_delivered(service: Service, webhook_id: str) -> bool:
    page = await service.json("GET", f"/webhooks/{webhook_id}/deliveries")
    return {one["status"] for one in page["deliveries"]} == {"delivered"}


def _user_of(request: Received) -> str | None:
    user: str | None = request.event["data"].get("user_id")
    return user


async def test_a_partition_that_is_away_fails_its_own_users_only(service: Service) -> None:
    service.proxy.flows.clear()
    try:
        refused = await service.client.post(
            "/blocks", json={"user_id": OTHER[5], "content": "Not now."}
        )
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        await service.add(HOME[5], f"{HOME[5]} bought a red car.")
        batch = [{"user_id": user, "content": "A batch."} for user in (HOME[5], OTHER[5])]
        results = await service.client.post("/blocks/batch", json={"blocks": batch})
        accepted, refused = results.json()["results"]
        assert "error" not in accepted
        assert refused["error"]["code"] == "database_unavailable"
        # Workers continue with the others.
        await _until(lambda: _is_active(service, HOME[5]))
        health = await service.json("GET", "/health")
        assert health["status"] == "degraded"
        assert health["database"] == "ok"
        assert [fault["partition"] for fault in health["partition_faults"]] == [1]
        assert (await service.client.get("/health/ready")).status_code == 200
        assert (await service.client.get("/users")).status_code == 503
    finally:
        service.proxy.flows.set()
    await _until(lambda: _is_accepted(service, OTHER[5]))
    await until_idle(service.client)
    assert await _is_active(service, OTHER[5])
    assert (await service.json("GET", "/health"))["status"] == "ok"


async def _is_active(service: Service, user: str) -> bool:
    page = await service.json("GET", "/blocks", params={"user_id": user})
    return bool(page["blocks"]) and all(one["status"] == "active" for one in page["blocks"])


async def _is_accepted(service: Service, user: str) -> bool:
    response = await service.client.post("/blocks", json={"user_id": user, "content": "Now."})
    return response.is_success


async def test_writes_wait_while_their_partition_is_paused_and_others_do_not(
    service: Service,
) -> None:
    await service.add(OTHER[6], f"{OTHER[6]} is reading.")
    database = Database(service.home, pool_size=1)
    directory = PartitionDirectory(database)
    try:
        await _pause(database)
        await _until(lambda: _is_paused(service))
        waiting = asyncio.create_task(service.add(OTHER[6], "This waits."))
        await service.add(HOME[6], "This does not.")
        assert not waiting.done()
        assert (await service.client.get("/blocks", params={"user_id": OTHER[6]})).is_success
        await directory.set_state(1, "serving")
        assert (await waiting)["status"] == "pending_enrichment"
        await _pause(database)
        await _until(lambda: _is_paused(service))
        late = await service.client.post("/blocks", json={"user_id": OTHER[6], "content": "Late."})
        assert (late.status_code, late.json()["code"]) == (503, "partition_paused")
        assert int(late.headers["Retry-After"]) >= 1
    finally:
        await directory.set_state(1, "serving")
        await database.close()
    await until_idle(service.client)


async def _pause(home: Database) -> None:
    """Until the test ends it, however long that takes: a command's own pause is a short one."""
    await PartitionDirectory(home).set_state(1, "paused")
    await home.execute("UPDATE memory_partitions SET paused_until = NULL WHERE number = 1")


async def _is_paused(service: Service) -> bool:
    faults = (await service.json("GET", "/health"))["partition_faults"]
    return [(fault["partition"], fault["state"]) for fault in faults] == [(1, "paused")]


async def test_a_killed_workers_jobs_are_taken_over_in_every_partition(service: Service) -> None:
    users = [HOME[7], OTHER[7]]
    blocks = [
        {"user_id": user, "content": f"{user} remembers number {n}."}
        for n in range(40)
        for user in users
    ]
    await service.json("POST", "/blocks/batch", json={"blocks": blocks})
    service.stack.children["worker"].signal(signal.SIGKILL)
    await service.stack.restart("worker")
    await until_idle(service.client)
    for user in users:
        found = await service.paged("/blocks", "blocks", user_id=user, limit=100)
        assert len(found) == 40
        assert {one["status"] for one in found} == {"active"}
