"""Every tool, resource and prompt beside its route: none may read or write what the route may not.

Each is called with every kind of key, for the same user, block and job as its route in the table of
`test_access_matrix.py`; both must have the same outcome.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult
from tests.support.access_matrix import (
    ADA,
    BOB,
    MARKER,
    Ground,
    Operation,
    ground_for_tests,
    operations,
)
from tests.support.agents import over_http
from tests.support.keyed_service import beside
from tests.support.servers import Servers

from luma_memory.domain.access import EVERY_PERMISSION, Permission
from luma_memory.mcp.tools import TOOLS, TWINS

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALLOWED = "allowed"
# The route that does what a tool does. `batch` is per block, so one block stands for it.
ROUTES: Mapping[str, tuple[str, str]] = {
    "search_memories": ("POST", "/search"),
    "get_context": ("POST", "/context"),
    "add_memory": ("POST", "/blocks"),
    "get_memory": ("GET", "/blocks/{block_id}"),
    "update_memory": ("PATCH", "/blocks/{block_id}"),
    "delete_memory": ("DELETE", "/blocks/{block_id}"),
    "get_job_status": ("GET", "/jobs/{job_id}"),
    "search": ("POST", "/search"),
    "fetch": ("GET", "/blocks/{block_id}"),
    "memory://blocks": ("GET", "/blocks/{block_id}"),
    "memory://users": ("POST", "/context"),
    "recall": ("POST", "/context"),
}


@dataclass(frozen=True)
class Call:
    """A tool, resource or prompt, with its REST operation."""

    name: str
    operation: Operation
    arguments: Mapping[str, Any]
    body: Mapping[str, Any] | None
    params: Mapping[str, str]

    @property
    def names_no_user(self) -> bool:
        """Only the key or the configuration decides whose memory it is."""
        return self.name in ("search", "fetch")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(servers: Servers) -> AsyncIterator[Ground]:
    async with ground_for_tests(servers) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(ground: Ground) -> AsyncIterator[str]:
    """Of an API with every tool, configured for Ada."""
    stack = ground.api.stack
    async with beside(stack, mcp_search_fetch=True, mcp_user_id=ADA, port=0) as other:
        yield other.base_url


def calls(ground: Ground, user_id: str) -> Iterator[Call]:
    by_route = {(found.method, found.path): found for found in operations(ground)}
    assert set(ROUTES) == {
        *(tool.name for tool in (*TOOLS, *TWINS)),
        *("memory://blocks", "memory://users", "recall"),
    }
    whose = {"user_id": user_id}
    block, query, written = {"id": ground.block_id}, {"query": MARKER}, {"content": "Planted."}
    for name, arguments, body, params in (
        ("search_memories", whose | query, whose | query, {}),
        ("get_context", whose | query, whose | query, {}),
        ("add_memory", whose | written, whose | written, {}),
        ("get_memory", whose | block, None, whose),
        ("get_job_status", whose | {"id": ground.job_id}, None, whose),
        ("search", query, whose | query, {}),
        ("fetch", block, None, whose),
        ("memory://blocks", {"uri": f"{ground.block_id}?user_id={user_id}"}, None, whose),
        ("memory://users", {"uri": f"{user_id}/context"}, whose | query, {}),
        ("recall", whose | {"topic": MARKER}, whose | query, {}),
        ("update_memory", whose | block | written, written, whose),
        ("delete_memory", whose | block, None, whose),
    ):
        yield Call(name, by_route[ROUTES[name]], arguments, body, params)


async def outcome(client: Client, call: Call) -> tuple[str, str]:
    """`allowed` or the code, and everything that was returned."""
    try:
        if call.name == "recall":
            prompt = await client.get_prompt("recall", dict(call.arguments))
            return ALLOWED, prompt.model_dump_json()
        if call.name.startswith("memory://"):
            read = await client.read_resource(f"{call.name}/{call.arguments['uri']}")
            return ALLOWED, read.model_dump_json()
    except MCPError as error:
        # A resource that does not exist is an error of the protocol without a code of ours.
        code = (error.error.data or {}).get("code", "block_not_found")
        return code, error.error.model_dump_json()
    result = await client.call_tool(call.name, dict(call.arguments))
    assert isinstance(result, CallToolResult)
    meta = result.meta or {}
    code = meta["luma-memory/error"]["code"] if result.is_error else ALLOWED
    return code, result.model_dump_json()


async def route_outcome(http: httpx2.AsyncClient, ground: Ground, call: Call) -> str:
    path = call.operation.path.format(block_id=ground.block_id, job_id=ground.job_id)
    response = await http.request(
        call.operation.method, path, params=dict(call.params), json=call.body
    )
    return ALLOWED if response.is_success else str(response.json()["code"])


async def compared(ground: Ground, url: str, key: str, user_id: str) -> dict[str, tuple[str, str]]:
    """Outcome and content of each call that names the user, after it was compared."""
    found: dict[str, tuple[str, str]] = {}
    async with over_http(url, key=key) as client, ground.api.client(key) as http:
        for call in calls(ground, user_id):
            if call.names_no_user and user_id != ADA:
                continue
            found[call.name] = await outcome(client, call)
            assert found[call.name][0] == await route_outcome(http, ground, call), call.name
    return found


@pytest.mark.parametrize("granted", EVERY_PERMISSION)
async def test_a_permission_allows_a_tool_what_it_allows_its_route(
    ground: Ground, url: str, granted: Permission
) -> None:
    key = await ground.api.key(granted, project_id="forum")
    found = await compared(ground, url, key, BOB)
    for call in calls(ground, BOB):
        if call.name in found and call.operation.permission != granted:
            assert found[call.name][0] == "permission_missing", call.name
    # Without the permission to read, the result of a deletion repeats no text.
    assert all(MARKER not in content for _, content in found.values())


async def test_another_users_key_sees_and_changes_nothing(ground: Ground, url: str) -> None:
    key = await ground.api.key(*EVERY_PERMISSION, project_id="shop", user_id=BOB)
    async with over_http(url, key=key) as client, ground.api.client(key) as http:
        for call in calls(ground, ADA):
            code, content = await outcome(client, call)
            assert MARKER not in content, call.name
            if not call.names_no_user:
                assert code == await route_outcome(http, ground, call) == "user_not_allowed"
            else:  # the key's user counts before the configured one
                assert code == (ALLOWED if call.name == "search" else "block_not_found")
    await ground.assert_untouched()


async def test_another_projects_key_sees_and_changes_nothing(ground: Ground, url: str) -> None:
    key = await ground.api.key(*EVERY_PERMISSION, project_id="forum")
    found = await compared(ground, url, key, ADA)
    assert all(MARKER not in content for _, content in found.values())
    assert found["get_memory"][0] == found["delete_memory"][0] == "block_not_found"
    await ground.assert_untouched()


@pytest.mark.parametrize("kind", ["none", "bad", "revoked"])
async def test_without_good_credentials_no_tool_is_reached(
    ground: Ground, url: str, kind: str
) -> None:
    key = None if kind == "none" else await ground.api.key(*EVERY_PERMISSION, project_id="shop")
    if kind == "bad":
        key = "lmk_" + "a" * 12 + "_" + "b" * 43
    if kind == "revoked":
        assert key is not None
        await ground.api.revoke(key)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(trust_env=False, headers=headers) as http:
        for call in calls(ground, ADA):
            params = {"name": call.name, "arguments": dict(call.arguments)}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            response = await http.post(f"{url}/mcp", json=body)
            assert response.status_code in (401, 429), call.name
            assert MARKER not in response.text
    await ground.assert_untouched()


async def test_the_owners_key_reads_with_every_tool(ground: Ground, url: str) -> None:
    """The other tests could not fail if nothing was found by anyone."""
    key = await ground.api.key("read", project_id="shop")
    found = await compared(ground, url, key, ADA)
    read_only = {
        name for name, (method, path) in ROUTES.items() if method == "GET" or "blocks" not in path
    }
    for name in read_only - {"get_job_status"}:
        assert found[name][0] == ALLOWED, name
        # The hits of `search` are ids and titles.
        assert MARKER in found[name][1], name
    for name in set(ROUTES) - read_only:
        assert found[name][0] == "permission_missing"
    await ground.assert_untouched()
