"""Agent hosts whose service is killed amid calls: errors in time, and no action by the host."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pytest
from mcp.client.client import Client
from mcp_types import CallToolResult
from tests.support.agents import (
    LEGACY,
    VERSIONS,
    call,
    local_environment,
    over_http,
    over_stdio,
    plain_request,
)
from tests.support.machine_load import within
from tests.support.servers import Servers
from tests.support.stacks import running_service

from luma_memory.cli.connection_file import running_service as running_local_service
from luma_memory.cli.processes import API, Stack
from luma_memory.concurrency.file_lock import FileLock

pytestmark = [pytest.mark.slow, pytest.mark.new_interpreters]
# Of a call that is sent before or while the service restarts.
CALL_SECONDS_MAX = 2.0
# Until the service has to be back; a busy machine imports for that long.
BACK_SECONDS_MAX = 60.0
TEXT = "The ferry leaves at noon."


@dataclass
class Caller:
    """A host that repeats one call over one session.

    call_once: the text, or the code of an error that it can report and repeat.
    """

    call_once: Callable[[], Awaitable[str]]
    longest_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    async def works(self) -> bool:
        started = time.monotonic()
        response = await self.call_once()
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - started)
        if response != TEXT:
            self.failures.append(response)
        return response == TEXT

    async def until_it_works(self) -> None:
        async with asyncio.timeout(within(BACK_SECONDS_MAX)):
            while not await self.works():
                await asyncio.to_thread(time.sleep, 0.05)  # a model takes longer


def over_a_session(client: Client, block_id: str) -> Caller:
    async def call_once() -> str:
        result = await client.call_tool("get_memory", {"id": block_id})
        assert isinstance(result, CallToolResult)
        if not result.is_error:
            assert result.structured_content is not None
            return str(result.structured_content["text"])
        assert result.meta is not None
        error = result.meta["luma-memory/error"]
        assert error["retryable"], result.content
        return str(error["code"])

    return Caller(call_once)


def over_a_connection(http: httpx2.AsyncClient, version: str, block_id: str) -> Caller:
    """Plain requests: the Python SDK's client ends with the connection that it loses."""
    params = {"name": "get_memory", "arguments": {"id": block_id}}
    body, headers = plain_request("tools/call", params, version)

    async def call_once() -> str:
        try:
            response = await http.post("/mcp", json=body, headers=headers)
        except httpx2.TransportError as error:
            return type(error).__name__
        message = response.json()
        if "error" in message:
            return str(message["error"]["data"]["code"])
        return str(message["result"]["structuredContent"]["text"])

    return Caller(call_once)


async def survive(callers: Sequence[Caller], victims: Sequence[int]) -> None:
    """Kill the processes amid calls; every call ends in time, and calls work again."""
    amid = [asyncio.create_task(caller.works()) for caller in callers for _ in range(5)]
    await asyncio.sleep(0)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    await asyncio.gather(*amid)
    await asyncio.gather(*(caller.until_it_works() for caller in callers))
    for caller in callers:
        assert caller.longest_seconds < within(CALL_SECONDS_MAX), caller.failures


def service_processes(data_dir: Path) -> tuple[int, list[int], list[int]]:
    """The process of the connection file, its API, and all its processes but the database's."""
    found = running_local_service(data_dir)
    assert found is not None
    children = psutil.Process(found.pid).children()
    apis = [child.pid for child in children if child.net_connections(kind="tcp")]
    return found.pid, apis, [found.pid, *(child.pid for child in children)]


@pytest.mark.timeout(600)
async def test_a_local_service_that_is_killed_is_replaced(tmp_path: Path) -> None:
    """Two sessions of one machine. In turn: the API, the supervising process, all processes."""
    environment = local_environment(tmp_path)
    async with over_stdio(environment) as first, over_stdio(environment, mode=LEGACY) as second:
        (kept,) = (await call(first, "add_memory", content=TEXT))["memories"]
        callers = [over_a_session(client, kept["id"]) for client in (first, second)]
        for caller in callers:  # the first call of a session waits for the service's start
            await caller.until_it_works()
            caller.longest_seconds = 0.0
        for victim in ("API", "supervisor", "all"):
            supervisor, apis, everything = service_processes(tmp_path)
            victims = {"API": apis, "supervisor": [supervisor], "all": everything}[victim]
            await survive(callers, victims)
            former = supervisor if victim != "API" else None
            await _until_replaced(tmp_path, former, callers[0])
            if victim == "supervisor":
                assert not [code for caller in callers for code in caller.failures]
            for caller in callers:
                caller.failures.clear()
    assert FileLock(tmp_path / ".mcp-service").acquire(wait_seconds=within(60))


@pytest.mark.timeout(300)
async def test_an_api_that_is_killed_is_replaced_under_its_hosts(servers: Servers) -> None:
    """Over HTTP, with a process held ready as `luma-memory up` does."""
    async with (
        running_service(servers, spare=True, mcp_user_id="ada") as stack,
        watched(stack),
        httpx2.AsyncClient(base_url=stack.base_url, trust_env=False, timeout=30) as http,
    ):
        async with over_http(stack.base_url) as client:
            (kept,) = (await call(client, "add_memory", content=TEXT))["memories"]
        callers = [over_a_connection(http, version, kept["id"]) for version in VERSIONS]
        for _ in range(2):
            await survive(callers, [stack.children[API].pid])


@asynccontextmanager
async def watched(stack: Stack) -> AsyncIterator[None]:
    """Restart the stack's processes that are killed."""
    watching = asyncio.create_task(stack.watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _until_replaced(data_dir: Path, former: int | None, caller: Caller) -> None:
    """A call starts the replacement: those right after the kill may still have found the lock of
    the one that was killed."""
    async with asyncio.timeout(within(BACK_SECONDS_MAX)):
        while (found := running_local_service(data_dir)) is None or found.pid == former:
            await caller.works()
            await asyncio.to_thread(time.sleep, 0.1)
