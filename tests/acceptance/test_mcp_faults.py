"""Agent hosts under load, with faults and with hostile input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from mcp.shared.exceptions import MCPError
from tests.support.agents import (
    LEGACY,
    MODERN,
    call,
    call_repeated,
    over_http,
    over_stdio,
    refused,
    stdio_parameters,
)
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.servers import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")
MEGABYTE = "quince " * 150_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: Servers) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(servers) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(service: KeyedService) -> str:
    return await service.key("ingest", "read", user_id="ada")


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_a_refusal_before_the_protocol_reaches_the_host_with_its_reason(
    service: KeyedService, mode: str
) -> None:
    """Clients show a JSON-RPC error; of other bodies they report only that there was an error."""
    wrong = "lmk_" + "a" * 12 + "_" + "b" * 43
    assert "credentials_invalid" in await _failure(service.stack.base_url, wrong, mode)


HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b"\xff\xfe",
    b'"\\ud800"',
    b"NaN",
    b'{"jsonrpc": "2.0"}',
    b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "\\u0000"}',
    b'{"jsonrpc": "2.0", "id": {"a": 1}, "method": "tools/list"}',
    b'{"jsonrpc": "2.0", "id": 1e400, "method": "tools/list"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": []}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 7}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "arguments": 7}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "memory://[::"}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "recall"}}',
    b'[{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]',
]


@pytest.mark.parametrize("version", [MODERN, "2025-11-25", "x" * 5_000, None])
async def test_hostile_messages_get_an_error_of_the_protocol(
    service: KeyedService, key: str, version: str | None
) -> None:
    headers = {
        "Authorization": f"Bearer {key}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
    }
    if version is not None:
        headers["MCP-Protocol-Version"] = version
    async with httpx2.AsyncClient(trust_env=False, timeout=30, headers=headers) as http:
        for body in HOSTILE:
            response = await http.post(f"{service.stack.base_url}/mcp", content=body)
            assert response.status_code < 500, (body[:80], response.text[:200])
            assert "Traceback" not in response.text
            if response.status_code != 202:
                assert "error" in response.json() or response.json()["result"]["isError"]


async def test_a_megabyte_is_refused_or_stored_and_the_session_stays_usable(
    service: KeyedService, key: str
) -> None:
    environment = {
        "MEMORY_API_URL": service.stack.base_url,
        "MEMORY_API_KEY": key,
        "MEMORY_MCP_USER_ID": "ada",
    }
    clients = (
        over_http(service.stack.base_url, key=key),
        over_stdio(environment),
    )
    for connect in clients:
        async with connect as client:
            for tool, arguments in (
                ("search_memories", {"query": MEGABYTE}),
                ("get_context", {"query": MEGABYTE}),
                ("add_memory", {"content": MEGABYTE}),
                ("add_memory", {"content": "x", "metadata": {"a": MEGABYTE}}),
                ("add_memory", {"messages": [{"content": MEGABYTE, "role": MEGABYTE}]}),
                ("get_memory", {"id": MEGABYTE}),
                ("update_memory", {"id": str(uuid4()), "content": MEGABYTE}),
                ("get_job_status", {"id": MEGABYTE}),
            ):
                assert await refused(client, tool, **arguments) == "invalid_request"
            with pytest.raises(MCPError, match="Unknown tool"):
                await client.call_tool(MEGABYTE[:2_000].replace(" ", "_"), {})
            assert (await call(client, "add_memory", content=f"After {uuid4()}."))["memories"]


@pytest.mark.parametrize("mode", [MODERN, LEGACY])
async def test_a_cancelled_call_leaves_the_session_usable(
    service: KeyedService, key: str, mode: str
) -> None:
    environment = {
        "MEMORY_API_URL": service.stack.base_url,
        "MEMORY_API_KEY": key,
        "MEMORY_MCP_USER_ID": "ada",
    }
    for connect in (
        over_http(service.stack.base_url, key=key, mode=mode),
        over_stdio(environment, mode=mode),
    ):
        async with connect as client:
            for turns in range(0, 60, 6):  # from before it is sent to while it runs
                calling = asyncio.create_task(call(client, "search_memories", query="quince"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                calling.cancel()
                await asyncio.gather(calling, return_exceptions=True)
            assert "memories" in await call(client, "search_memories", query="quince")


async def test_input_that_ends_in_a_message_ends_the_process_silently(
    service: KeyedService, key: str
) -> None:
    environment = {
        "MEMORY_API_URL": service.stack.base_url,
        "MEMORY_API_KEY": key,
        "MEMORY_MCP_USER_ID": "ada",
    }
    parameters = stdio_parameters(environment)
    process = await asyncio.create_subprocess_exec(
        parameters.command,
        *parameters.args,
        env=parameters.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    bodies = b"\n".join(body for body in HOSTILE if body)
    output, errors = await process.communicate(bodies + b'\n{"jsonrpc": "2.0", "id": 1, "met')
    assert process.returncode == 0
    assert b"Traceback" not in errors
    for line in output.splitlines():  # standard output carries the protocol only
        assert json.loads(line)["jsonrpc"] == "2.0"


@pytest.mark.slow
async def test_sixty_sessions_lose_and_mix_up_nothing(servers: Servers) -> None:
    """Fifty over HTTP and ten over standard input, for a minute.

    On a busy machine the database may not respond in time; the host repeats such a call.
    """
    seconds = 60.0
    async with running_keyed_service(servers) as service:
        url = service.stack.base_url
        keys = [await service.key("ingest", "read", user_id=f"user-{n}") for n in range(60)]
        until = asyncio.get_running_loop().time() + seconds

        async def session(number: int) -> list[str]:
            mode = MODERN if number % 2 else LEGACY
            environment = {
                "MEMORY_API_URL": url,
                "MEMORY_API_KEY": keys[number],
                "MEMORY_MCP_USER_ID": f"user-{number}",
            }
            connect = (
                over_http(url, key=keys[number], mode=mode)
                if number < 50
                else over_stdio(environment, mode=mode)
            )
            texts: list[str] = []
            async with connect as client:
                while asyncio.get_running_loop().time() < until:
                    text = f"Note {len(texts)} of user {number}: {uuid4().hex}."
                    (added,) = (await call_repeated(client, "add_memory", content=text))["memories"]
                    texts.append(text)
                    assert (await call_repeated(client, "get_memory", id=added["id"]))[
                        "text"
                    ] == text
                    found = await call_repeated(
                        client, "search_memories", query="note of user", limit=50
                    )
                    assert {memory["text"] for memory in found["memories"]} <= set(texts)
            return texts

        written = await asyncio.gather(*(session(number) for number in range(60)))
        database = await asyncpg.connect(service.stack.database_url)
        try:
            for number, texts in enumerate(written):
                statement = "SELECT content FROM memory_blocks WHERE user_id = $1"
                stored = await database.fetch(statement, f"user-{number}")
                assert texts
                assert sorted(row["content"] for row in stored) == sorted(texts)
        finally:
            await database.close()


def _remote(service: KeyedService, key: str, user_id: str) -> dict[str, str]:
    """The environment of a session over standard streams with this service."""
    return {
        "MEMORY_API_URL": service.stack.base_url,
        "MEMORY_API_KEY": key,
        "MEMORY_MCP_USER_ID": user_id,
    }


async def _failure(url: str, key: str, mode: str) -> str:
    """The message of the error that a host gets from its first request."""
    error: BaseException | None = None
    try:
        async with over_http(url, key=key, mode=mode) as client:
            await client.list_tools()
    except (MCPError, BaseExceptionGroup) as caught:
        error = caught
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, MCPError), error
    return str(error)
