"""The tools as agent hosts call them: the protocol's own client, over both transports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceLink, TextContent, TextResourceContents
from tests.support.agents import (
    LEGACY,
    MODERN,
    call,
    local_environment,
    over_http,
    over_stdio,
    refused,
)
from tests.support.keyed_service import KeyedService, beside, running_keyed_service
from tests.support.servers import Servers

from luma_memory.concurrency.file_lock import FileLock
from luma_memory.domain.access import EVERY_PERMISSION
from luma_memory.mcp.tools import TOOLS

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = [tool.name for tool in TOOLS]
Connect = Callable[[], AbstractAsyncContextManager[Client]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(service: KeyedService) -> str:
    """Of one user, so that no call has to name one."""
    return await service.key("ingest", "read", user_id="ada")


@pytest.fixture(params=["http-modern", "http-legacy", "stdio-modern", "stdio-legacy"])
def connect(request: pytest.FixtureRequest, service: KeyedService, key: str) -> Connect:
    transport, _, era = str(request.param).partition("-")
    mode = MODERN if era == "modern" else LEGACY
    if transport == "http":
        return lambda: over_http(service.stack.base_url, key=key, mode=mode)
    environment = {
        "MEMORY_API_URL": service.stack.base_url,
        "MEMORY_API_KEY": key,
        "MEMORY_MCP_USER_ID": "ada",
    }
    return lambda: over_stdio(environment, mode=mode)


async def test_every_tool_works_over_every_transport(connect: Connect) -> None:
    word = f"lantern{uuid4().hex[:8]}"
    async with connect() as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == NAMES
        statement = f"The {word} festival takes place in March."
        (added,) = (await call(client, "add_memory", content=statement))["memories"]
        assert added["duplicate"] is False
        (again,) = (await call(client, "add_memory", content=statement))["memories"]
        assert (again["id"], again["duplicate"]) == (added["id"], True)

        found = await call(client, "search_memories", query=f"When is the {word} festival?")
        assert found["memories"][0]["id"] == added["id"]
        assert found["memories"][0]["source"] == "mcp"
        context = await call(client, "get_context", query=f"When is the {word} festival?")
        assert word in context["text"]
        whole = await call(client, "get_memory", id=added["id"])
        assert whole["text"] == statement
        job = await call(client, "get_job_status", id=added["job_id"])
        assert job["status"] in ("pending", "processing", "completed")

        corrected = f"The {word} festival takes place in April."
        updated = await call(client, "update_memory", id=added["id"], content=corrected)
        assert updated["id"] == added["id"]
        read = await client.read_resource(f"memory://blocks/{added['id']}")
        (contents,) = read.contents
        assert isinstance(contents, TextResourceContents)
        assert corrected in contents.text
        prompt = await client.get_prompt("recall", {"topic": f"the {word} festival"})
        assert isinstance(prompt.messages[0].content, TextContent)
        assert word in prompt.messages[0].content.text

        gone = await call(client, "delete_memory", id=added["id"])
        assert (gone["deleted"], gone["text"]) == (added["id"], corrected)
        assert await refused(client, "get_memory", id=added["id"]) == "block_not_found"
        assert await refused(client, "delete_memory", id=added["id"]) == "block_not_found"


async def test_a_conversation_is_stored_turn_by_turn(service: KeyedService, key: str) -> None:
    messages = [
        {"role": "user", "content": "Shall we plant the quince?"},
        {"role": "assistant", "content": "Yes, in the south corner."},
    ]
    async with over_http(service.stack.base_url, key=key) as client:
        added = await call(client, "add_memory", messages=messages, session_id="garden")
        assert len(added["memories"]) == 2
        first = await call(client, "get_memory", id=added["memories"][0]["id"])
        assert (first["speaker"], first["session_id"]) == ("user", "garden")


async def test_large_results_are_bounded_and_linked(service: KeyedService) -> None:
    key = await service.key("ingest", "read", user_id="astronomer")
    texts = [f"Report {n} of the observatory. " + "The sky was clear. " * 200 for n in range(40)]
    async with over_http(service.stack.base_url, key=key) as client:
        for text in texts:
            await call(client, "add_memory", content=text)
        result = await client.call_tool(
            "search_memories", {"query": "observatory report", "limit": 50}
        )
        structured = result.structured_content
        assert structured is not None
        links = [item for item in result.content if isinstance(item, ResourceLink)]
        assert structured["omitted"] > 0
        assert 0 < len(links) <= structured["omitted"]
        assert all(len(memory["text"]) <= 500 for memory in structured["memories"])
        assert all(memory["truncated"] for memory in structured["memories"])
        assert len(result.model_dump_json(by_alias=True, exclude_none=True)) <= 4 * 4_000
        (contents,) = (await client.read_resource(links[0].uri)).contents
        assert isinstance(contents, TextResourceContents)
        assert "The sky was clear." in contents.text


async def test_a_long_text_is_read_in_parts(service: KeyedService, key: str) -> None:
    text = "".join(f"Paragraph {n} of the long letter. " for n in range(1_500))
    async with over_http(service.stack.base_url, key=key) as client:
        (added,) = (await call(client, "add_memory", content=text))["memories"]
        read = ""
        offset: int | None = 0
        while offset is not None:
            part = await call(client, "get_memory", id=added["id"], offset=offset)
            read, offset = read + part["text"], part.get("next_offset")
        assert read == text


async def test_the_key_decides_whose_memory_it_is(service: KeyedService, key: str) -> None:
    of_project = await service.key(*EVERY_PERMISSION)
    url = service.stack.base_url
    async with over_http(url, key=key) as ada, over_http(url, key=of_project) as anyone:
        (added,) = (await call(ada, "add_memory", content="Ada's private remark."))["memories"]
        assert await refused(ada, "search_memories", query="x", user_id="bob") == "user_not_allowed"
        assert await refused(anyone, "search_memories", query="remark") == "user_id_missing"
        assert await refused(anyone, "get_memory", id=added["id"], user_id="bob") == (
            "block_not_found"
        )
        found = await call(anyone, "get_memory", id=added["id"], user_id="ada")
        assert found["text"] == "Ada's private remark."


async def test_a_missing_permission_is_reported(service: KeyedService) -> None:
    reader = await service.key("read", user_id="ada")
    writer = await service.key("ingest", user_id="ada")
    url = service.stack.base_url
    async with over_http(url, key=reader) as read_only, over_http(url, key=writer) as writing:
        assert (
            await refused(read_only, "add_memory", content="Not allowed.") == "permission_missing"
        )
        assert await refused(writing, "search_memories", query="x") == "permission_missing"
        (added,) = (await call(writing, "add_memory", content="Write only."))["memories"]
        gone = await call(writing, "delete_memory", id=added["id"])
        assert "text" not in gone


@pytest.mark.parametrize("token", [None, "lmk_" + "a" * 12 + "_" + "b" * 43])
async def test_without_valid_credentials_the_status_is_401(
    service: KeyedService, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(trust_env=False, headers=headers) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        response = await http.post(f"{service.stack.base_url}/mcp", json=body)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        response = await http.get(f"{service.stack.base_url}/mcp")
        assert response.status_code == 401


async def test_configured_servers_offer_what_is_configured(service: KeyedService, key: str) -> None:
    async with (
        beside(service.stack, mcp_read_only=True, mcp_search_fetch=True, port=0) as other,
        over_http(other.base_url, key=key) as client,
        over_http(service.stack.base_url, key=key) as writing,
    ):
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names == [
            *("search_memories", "get_context", "get_memory", "get_job_status"),
            *("search", "fetch"),
        ]
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("delete_memory", {"id": str(uuid4())})
        await call(writing, "add_memory", content="The heron returned to the mill pond.")
        found = await client.call_tool("search", {"query": "heron at the pond"})
        (text,) = found.content
        assert isinstance(text, TextContent)
        hit = json.loads(text.text)["results"][0]
        document = await call(client, "fetch", id=hit["id"])
        assert document["text"] == "The heron returned to the mill pond."


async def test_a_disabled_server_has_no_endpoint(service: KeyedService, key: str) -> None:
    async with (
        beside(service.stack, mcp_enabled=False, port=0) as other,
        httpx2.AsyncClient(trust_env=False, headers={"X-API-Key": key}) as http,
    ):
        assert (await http.post(f"{other.base_url}/mcp", json={})).status_code == 404


async def test_without_keys_pages_of_other_hosts_are_rejected(servers: Servers) -> None:
    async with (
        running_keyed_service(servers, first_key=False) as service,
        httpx2.AsyncClient(trust_env=False) as http,
    ):
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            response = await http.post(f"{service.stack.base_url}/mcp", json=body, headers=headers)
            assert response.status_code == 403
        async with over_http(service.stack.base_url) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == NAMES


async def test_ten_sessions_share_one_service(tmp_path: Path) -> None:
    data_dir = tmp_path / "data dir"
    environment = local_environment(data_dir)

    async def session(number: int) -> str:
        async with over_stdio(environment) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == NAMES
            content = f"Session number {number} was here."
            (added,) = (await call(client, "add_memory", content=content))["memories"]
            whole = await call(client, "get_memory", id=added["id"])
            assert whole["text"] == content
            return str(added["id"])

    ids = await asyncio.gather(*(session(number) for number in range(10)))
    assert len(set(ids)) == 10
    log = (data_dir / "mcp-service.log").read_text(encoding="utf-8")
    assert log.count("luma-memory: ready") == 1
    assert FileLock(data_dir / ".mcp-service").acquire(wait_seconds=60)  # it stops by itself
