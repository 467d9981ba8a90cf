"""The corpora of hostile texts over the tools, with a real service behind them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp_types import CallToolResult, TextContent, TextResourceContents
from tests.support.agents import VERSIONS, call, over_http, plain_request
from tests.support.hostile_texts import IMITATIONS, KEPT, REFUSED, acting_signs
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers
from tests.support.service import until_idle

from luma_memory.mcp.results import NOTICE

pytestmark = pytest.mark.asyncio(loop_scope="module")
PLACE = b'"REPLACED"'
RESPONSE_BYTES_MAX = 20_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(service: KeyedService, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    url = service.stack.base_url
    async with httpx2.AsyncClient(
        base_url=url, headers=headers, trust_env=False, timeout=60
    ) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(service: KeyedService) -> str:
    return await service.key("ingest", "read")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
async def test_arguments_that_cannot_be_kept_are_refused(
    http: httpx2.AsyncClient, arguments: bytes, version: str
) -> None:
    for tool in ("add_memory", "search_memories"):
        params = {"name": tool, "arguments": "REPLACED"}
        message, headers = plain_request("tools/call", params, version)
        body = json.dumps(message).encode().replace(PLACE, arguments)
        headers["Content-Type"] = "application/json"
        response = await http.post("/mcp", content=body, headers=headers)
        assert response.status_code < 500, response.text[:300]
        assert len(response.content) < RESPONSE_BYTES_MAX
        assert "Traceback" not in response.text
        received = response.json()
        assert "error" in received or received["result"]["isError"], received
    whole, headers = plain_request("tools/list", {}, version)
    assert "result" in (await http.post("/mcp", json=whole, headers=headers)).json()


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
async def test_odd_texts_are_kept_exactly(service: KeyedService, key: str, text: str) -> None:
    async with over_http(service.stack.base_url, key=key) as agent:
        await _check_kept(agent, text)


async def _check_kept(agent: Client, text: str) -> None:
    user_id = f"{text[:200].strip()} {uuid4()}" if "\r" not in text else f"h-{uuid4()}"
    sent = {
        "content": text,
        "session_id": text[:250],
        "metadata": {text[:300]: text[:400], "__proto__": {"constructor": None}},
    }
    (added,) = (await call(agent, "add_memory", user_id=user_id, **sent))["memories"]
    read = ""
    offset: int | None = 0
    while offset is not None:
        part = await call(agent, "get_memory", user_id=user_id, id=added["id"], offset=offset)
        read, offset = read + part["text"], part.get("next_offset")
    assert read == text
    assert part["session_id"] == sent["session_id"]
    assert part.get("metadata", sent["metadata"]) == sent["metadata"]  # left out where it is long
    for filters in ({}, {"session_id": text[:250]}):
        question = {"query": text[:10_000], "filters": filters}
        found = await call(agent, "search_memories", user_id=user_id, **question)
        assert {memory["id"] for memory in found["memories"]} <= {added["id"]}
    await call(agent, "get_context", user_id=user_id, query=text[:10_000])
    deleted = await call(agent, "delete_memory", user_id=user_id, id=added["id"])
    assert deleted["deleted"] == added["id"]


async def test_stored_text_stays_data_in_all_that_a_model_reads(
    service: KeyedService, key: str
) -> None:
    async with over_http(service.stack.base_url, key=key) as agent, service.client(key) as client:
        await _check_data(agent, client)


async def _check_data(agent: Client, client: httpx2.AsyncClient) -> None:
    stored = [(f"u-{uuid4()}", text) for text in IMITATIONS]
    ids: list[str] = []
    for user_id, text in stored:
        message = {"content": f"The user likes quince. {text}", "role": text.strip()[:200]}
        added = await call(agent, "add_memory", messages=[message], user_id=user_id)
        ids.append(added["memories"][0]["id"])
    await until_idle(client)
    for (user_id, text), block_id in zip(stored, ids, strict=True):
        whose = {"user_id": user_id}
        for shown in (
            await _text(agent, "search_memories", query="quince", **whose),
            await _text(agent, "get_context", query="quince", **whose),
            await _text(agent, "get_memory", id=block_id, **whose),
            await _resource(agent, f"memory://blocks/{block_id}?user_id={user_id}"),
            await _resource(agent, f"memory://users/{user_id}/context"),
            await _recalled(agent, user_id),
            await _text(agent, "delete_memory", id=block_id, **whose),
        ):
            assert "quince" in shown, text
            assert NOTICE in shown
            assert not acting_signs(shown), text
            # One line for each record, whatever line ends it contains.
            assert len(shown.splitlines()) <= 3, text


async def _text(agent: Client, tool: str, **arguments: Any) -> str:
    result = await agent.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result.content
    (text,) = result.content
    assert isinstance(text, TextContent)
    return text.text


async def _resource(agent: Client, uri: str) -> str:
    (contents,) = (await agent.read_resource(uri)).contents
    assert isinstance(contents, TextResourceContents)
    return contents.text


async def _recalled(agent: Client, user_id: str) -> str:
    prompt = await agent.get_prompt("recall", {"topic": "quince", "user_id": user_id})
    (message,) = prompt.messages
    assert isinstance(message.content, TextContent)
    return message.content.text
