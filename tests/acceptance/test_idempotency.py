"""A keyed request is done once: after a restart, from fifty callers; not across projects."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")
CALLERS = 50


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as running:
        yield running


class Writes:
    """Every kind of keyed write."""

    def __init__(self, client: httpx2.AsyncClient, user_id: str) -> None:
        self.client = client
        self.user_id = user_id
        self._there: list[str] = []

    async def prepare(self) -> None:
        """Two blocks: answers about one go with it when it is deleted."""
        for number in range(2):
            body = {"user_id": self.user_id, "content": f"There already, {number}."}
            self._there.append((await self.client.post("/blocks", json=body)).json()["id"])

    def requests(self) -> list[tuple[str, str, Any]]:
        new = {"user_id": self.user_id, "content": "New."}
        edited, deleted = (f"/blocks/{id_}?user_id={self.user_id}" for id_ in self._there)
        return [
            ("POST", "/blocks", new),
            ("POST", "/blocks/batch", {"blocks": [new, {**new, "content": "Newer."}]}),
            ("PATCH", edited, {"content": "Edited."}),
            ("POST", "/jobs/retry", {"user_id": self.user_id}),
            ("DELETE", deleted, None),
            ("DELETE", f"/users/{self.user_id}-other", None),
        ]

    async def send(self, request: tuple[str, str, Any], *, key: str) -> httpx2.Response:
        method, path, body = request
        return await self.client.request(method, path, json=body, headers={"Idempotency-Key": key})

    async def contents(self) -> list[str]:
        page = await self.client.get("/blocks", params={"user_id": self.user_id})
        return sorted(block["content"] for block in page.json()["blocks"])


def essence(response: httpx2.Response) -> tuple[int, str, str | None]:
    assert response.is_success, response.text
    return response.status_code, response.text, response.headers.get("ETag")


async def test_fifty_concurrent_callers_get_one_result_and_it_is_applied_once(
    service: KeyedService,
) -> None:
    async with service.client(await service.key("ingest", "read", "admin")) as client:
        writes = Writes(client, f"fifty-{uuid4()}")
        await writes.prepare()
        for number, request in enumerate(writes.requests()):
            sent = (writes.send(request, key=f"fifty-{number}") for _ in range(CALLERS))
            responses = {essence(response) for response in await asyncio.gather(*sent)}
            assert len(responses) == 1, request
        assert await writes.contents() == ["Edited.", "New.", "Newer."]


async def test_responses_survive_a_restart(service: KeyedService) -> None:
    key = await service.key("ingest", "read", "admin")
    user_id = f"restart-{uuid4()}"
    async with service.client(key) as client:
        writes = Writes(client, user_id)
        await writes.prepare()
        before = [
            essence(await writes.send(request, key=f"restart-{number}"))
            for number, request in enumerate(writes.requests())
        ]
    service.stack.children["api"].signal(signal.SIGKILL)
    await service.stack.restart("api")
    await service.stack.ready()
    async with service.client(key) as client:
        writes.client = client
        for number, request in enumerate(writes.requests()):
            assert essence(await writes.send(request, key=f"restart-{number}")) == before[number]
        assert await writes.contents() == ["Edited.", "New.", "Newer."]
        other = ("POST", "/blocks", {"user_id": user_id, "content": "Something else."})
        refused = await writes.send(other, key="restart-0")
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


async def test_projects_and_users_have_keys_of_their_own(service: KeyedService) -> None:
    here = await service.key("ingest", "read", "admin")
    elsewhere = await service.key("ingest", "read", "admin", project_id="elsewhere")
    name = str(uuid4())
    made = []
    for key, user_id in ((here, "ada"), (here, "bea"), (elsewhere, "ada")):
        async with service.client(key) as client:
            writes = Writes(client, f"{user_id}-{name}")
            await writes.prepare()
            body = {"user_id": writes.user_id, "content": "Mine."}
            response = await writes.send(("POST", "/blocks", body), key=name)
            made.append(response.json()["id"])
            edited = await writes.send(writes.requests()[2], key=f"edit-{name}")
            assert edited.json()["content"] == "Edited."
            assert edited.json()["user_id"] == writes.user_id
    assert len(set(made)) == 3
