"""The table of the authorization tests: every route, its permission, and a user with secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers
from tests.support.service import BASE_PATH, all_blocks, until_idle

from luma_memory.domain.access import EVERY_PERMISSION, Permission

# In everything that is Ada's: her words, her session, her metadata.
MARKER = "quincunx"
ADA, BOB = "ada", "bob"


@dataclass
class Ground:
    """A running service in which Ada of the project `shop` has something to hide."""

    api: KeyedService
    document: dict[str, Any]
    block_id: str
    job_id: int
    cursors: list[str]

    async def assert_untouched(self) -> None:
        """Ada's blocks and job are as they were made."""
        key = await self.api.key("read", project_id="shop")
        async with self.api.client(key) as client:
            blocks = await all_blocks(client, ADA)
            assert [block["revision"] for block in blocks] == [2, 1, 1]
            assert all(MARKER in block["content"] for block in blocks)
            job = (await client.get(f"/jobs/{self.job_id}")).json()
            assert job["status"] == "completed"


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    definition: dict[str, Any]

    @property
    def permission(self) -> Permission | Literal["any"] | None:
        permission: Permission | Literal["any"] | None = self.definition.get("x-permission")
        return permission

    def parameters(self, place: str) -> Iterator[dict[str, Any]]:
        return (p for p in self.definition.get("parameters", []) if p["in"] == place)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@asynccontextmanager
async def ground_for_tests(servers: Servers) -> AsyncIterator[Ground]:
    async with running_keyed_service(servers) as api:
        everything = await api.key(*EVERY_PERMISSION, project_id="shop")
        async with api.client(everything) as client:
            for n in range(3):
                block = {
                    "user_id": ADA,
                    "content": f"The {MARKER} of the orchard, number {n}.",
                    "session_id": f"{MARKER}-session",
                    "metadata": {MARKER: n},
                }
                accepted = (await client.post("/blocks", json=block)).json()
            await until_idle(client)
            block_id, job_id = accepted["id"], accepted["job_id"]
            whose = {"user_id": ADA}
            item = {"namespace": [MARKER], "key": MARKER, "value": {"text": MARKER}}
            assert (await client.put("/items", json={**whose, **item})).is_success
            await until_idle(client)
            edited = await client.patch(f"/blocks/{block_id}", params=whose, json={"source": "x"})
            assert edited.is_success
            cursors = [
                (await client.get(path, params={**whose, "limit": "1"})).json()["next_cursor"]
                for path in ("/blocks", "/jobs")
            ]
            document = (await client.get("/openapi.json")).json()
        yield Ground(api, document, block_id, job_id, cursors)


def operations(ground: Ground) -> list[Operation]:
    """Deletions last: the others request what they delete."""
    found = [
        Operation(method.upper(), path.removeprefix(BASE_PATH), definition)
        for path, methods in ground.document["paths"].items()
        for method, definition in methods.items()
    ]
    assert len(found) > 20
    return sorted(found, key=lambda operation: operation.method == "DELETE")
