"""Agents: a tool call beside REST, the start of a session, and what a hook costs its host."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.chat import questions, turns
from benchmarks.client import Connection, connections, expect, post
from benchmarks.figures import Line, Round, Target, WrongResultError, bounded, compared, percentile
from benchmarks.recall import store_template
from benchmarks.sizes import Sizes
from benchmarks.stack import WAIT_SECONDS_MAX, Stack
from luma_memory.concurrency.file_lock import FileLock
from luma_memory.mcp import MCP_PATH
from luma_memory.providers.embedding.local import LocalEmbedder

USER: Final = "agents"
LIMIT: Final = 10
_MODERN, _LEGACY = "2026-07-28", "2025-11-25"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def tools(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """The same questions as tool calls and over REST, in turn; and the list of tools."""
    embedder = await LocalEmbedder.open()
    try:
        await store_template(stack, USER, sizes.context_blocks, embedder.model)
    finally:
        await embedder.close()
    rounds: dict[str, list[Round]] = {_MODERN: [], _LEGACY: []}
    listed: list[float] = []
    async with connections(stack.api, 1) as (client,):
        for number in range(sizes.rounds + 1):
            for version, measured in rounds.items():
                some = questions(sizes.questions, seed=400 + number)
                entry = await _searches(client, some, version)
                measured += [entry] if number > 0 else []  # the first one fills caches
            for _ in range(sizes.questions):
                response = await client.ask(_message("tools/list", {}, _MODERN))
                expect(response, 200)
                listed.append(response.duration_ms)
    await stack.clear()
    return [
        *(
            compared(
                f"mcp_search_{version}",
                f"search_memories in {sizes.context_blocks:,} blocks, protocol {version}, p50",
                measured,
                unit="ms",
                limit_name="POST /search",
                target=Target(1.3, "low"),
            )
            for version, measured in rounds.items()
        ),
        Line("mcp_tools_list", "tools/list over HTTP, p50", median(listed), "ms"),
    ]


async def _searches(client: Connection, some: Sequence[str], version: str) -> Round:
    by_tool: list[float] = []
    by_route: list[float] = []
    for number, question in enumerate(some):
        # Two forms of a question, or the second would find the vector of the first.
        sent = [f"{question} ({version}/{side})" for side in (0, 1)]
        arguments = {"query": sent[0], "limit": LIMIT, "user_id": USER}
        call = {"name": "search_memories", "arguments": arguments}
        body = {"user_id": USER, "query": sent[1], "limit": LIMIT}
        sides = [
            (_message("tools/call", call, version), by_tool),
            (post("/search", body), by_route),
        ]
        for request, durations in sides if number % 2 else reversed(sides):
            response = await client.ask(request)
            expect(response, 200)
            durations.append(response.duration_ms)
            if len(_found(response.json())) == 0:
                raise WrongResultError(f"nothing was found: {response.body[:300]!r}")
    return Round(median(by_tool), median(by_route))


def _found(body: Mapping[str, Any]) -> Sequence[Any]:
    if "results" in body:
        return list(body["results"])
    return list(body["result"]["structuredContent"]["memories"])


def _message(method: str, params: Mapping[str, Any], version: str) -> bytes:
    """A whole POST request of one message."""
    meta = {"_meta": _META} if version == _MODERN else {}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, **meta}}
    content = json.dumps(body).encode()
    names = [f"Mcp-Method: {method}"]
    if "name" in params:
        names.append(f"Mcp-Name: {params['name']}")
    head = (
        f"POST {MCP_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Accept: application/json, text/event-stream\r\n"
        f"MCP-Protocol-Version: {version}\r\nContent-Length: {len(content)}\r\n"
    )
    return (head + "\r\n".join(names) + "\r\n\r\n").encode() + content


async def sessions(_stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """A host that starts `luma-memory mcp`: with no service yet, and beside other sessions."""
    with tempfile.TemporaryDirectory(prefix="luma-memory-bench-") as folder:
        cold = await _session(Path(folder))
        warm = [await _session(Path(folder)) for _ in range(sizes.rounds)]
        # The service in the background ends after the last session.
        free = await asyncio.to_thread(
            FileLock(Path(folder) / ".mcp-service").acquire, wait_seconds=WAIT_SECONDS_MAX
        )
        if not free:
            raise WrongResultError("the service of the sessions did not stop")
    return [
        bounded(
            "mcp_stdio_cold_list",
            "start of luma-memory mcp to tools/list, no service yet",
            cold[0],
            unit="ms",
            limit=2_000,
            limit_name="promised",
        ),
        Line("mcp_stdio_cold_search", "  to the first search, with a new database", cold[1], "ms"),
        Line(
            "mcp_stdio_warm_list",
            "start of luma-memory mcp to tools/list, beside other sessions",
            median(entry[0] for entry in warm),
            "ms",
        ),
        Line(
            "mcp_stdio_warm_search",
            "  to the first search",
            median(entry[1] for entry in warm),
            "ms",
        ),
    ]


async def _session(folder: Path) -> tuple[float, float]:
    """Milliseconds to the list of tools, and to the result of a search."""
    variables = {"MEMORY_DATA_DIR": str(folder), "MEMORY_MCP_IDLE_SECONDS": "10"}
    started = time.perf_counter()
    async with _process("luma_memory.cli", "mcp", variables=variables) as process:
        hello = {
            "protocolVersion": _LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        }
        await _call(process, 1, "initialize", hello)
        _write(process, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        listed = await _call(process, 2, "tools/list", {})
        list_ms = (time.perf_counter() - started) * 1000
        if len(listed["tools"]) == 0:
            raise WrongResultError("no tool is listed")
        search = {"name": "search_memories", "arguments": {"query": "Where is the ferry?"}}
        found = await _call(process, 3, "tools/call", search)
        if found.get("isError"):
            raise WrongResultError(f"a search failed: {found}")
        return list_ms, (time.perf_counter() - started) * 1000


async def hook(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """The process that a coding agent starts at each prompt, with a running service."""
    durations: list[float] = []
    embedder = await LocalEmbedder.open()
    try:
        await store_template(stack, USER, sizes.context_blocks, embedder.model)
    finally:
        await embedder.close()
    with tempfile.TemporaryDirectory(prefix="luma-memory-bench-") as folder:
        variables = {
            "MEMORY_DATA_DIR": folder,
            "MEMORY_API_URL": f"http://{stack.api.host}:{stack.api.port}",
            "MEMORY_MCP_USER_ID": USER,
        }
        # Prompts about what is stored: each gets a context.
        for turn in turns(sizes.context_blocks, seed=72)[: sizes.questions + 1]:
            given = {"session_id": "s", "cwd": folder, "prompt": turn.content}
            started = time.perf_counter()
            async with _process(
                "luma_memory", "hook", "UserPromptSubmit", variables=variables
            ) as process:
                output, _ = await process.communicate(json.dumps(given).encode())
            durations.append((time.perf_counter() - started) * 1000)
            if process.returncode != 0 or b"hookSpecificOutput" not in output:
                raise WrongResultError(f"a hook added nothing: {output[:300]!r}")
    await stack.clear()
    kept = durations[1:]  # the first one fills caches
    return [
        bounded(
            "hook_prompt_p95",
            f"hook UserPromptSubmit with {sizes.context_blocks:,} blocks, p95",
            percentile(kept, 95),
            unit="ms",
            limit=300,
            limit_name="promised",
        ),
        Line("hook_prompt_p50", "  p50", median(kept), "ms"),
    ]


@asynccontextmanager
async def _process(
    module: str, *arguments: str, variables: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is given only these of our settings; it has ended afterwards."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        env={**base, **variables},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 20,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), WAIT_SECONDS_MAX)


async def _call(
    process: asyncio.subprocess.Process, number: int, method: str, params: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The result. Raises WrongResultError for an error of the protocol."""
    assert process.stdout is not None
    _write(process, {"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    while line := await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS_MAX):
        message = json.loads(line)
        if message.get("id") == number:
            if "result" not in message:
                raise WrongResultError(f"{method}: {message}")
            result: Mapping[str, Any] = message["result"]
            return result
    raise WrongResultError(f"{method}: the process has ended")


def _write(process: asyncio.subprocess.Process, message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
