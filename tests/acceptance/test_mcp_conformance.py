"""The protocol's official conformance program, and the TypeScript SDK's clients, on the service.

Both are fetched with npm (`tests/conformance`), so `make faults` runs this file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from tests.support.agents import over_http, stdio_parameters
from tests.support.keyed_service import KeyedService, running_keyed_service
from tests.support.node_suite import ROOT, NodeSuite, fetched_suite
from tests.support.renaming_proxy import renaming_proxy
from tests.support.service import BASE_PATH

from luma_memory.cli.processes import Stack, running_stack
from luma_memory.mcp.tools import TOOLS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]
VERSIONS = ("2026-07-28", "2025-11-25")
PROGRAM = "node_modules/@modelcontextprotocol/conformance/dist/index.js"
TOPIC = "testValue1 and testValue2"

# Scenarios that do not concern this server, by the reason. They need tools of the program's own
# that do what no tool here does.
_NO_SERVER_REQUESTS = "the server requests no input, sampling or roots from its clients"
LEFT_OUT: Mapping[str, str] = {
    "completion-complete": "arguments are not completed; the capability is not declared",
    "logging-set-level": "protocol logging is deprecated; the capability is not declared",
    "tools-call-with-logging": "protocol logging is deprecated; the capability is not declared",
    "tools-call-with-progress": "calls are short and report no progress",
    "tools-call-image": "results are text",
    "tools-call-audio": "results are text",
    "tools-call-embedded-resource": "results link to resources and embed none",
    "tools-call-mixed-content": "results are text",
    "tools-call-sampling": _NO_SERVER_REQUESTS,
    "tools-call-elicitation": _NO_SERVER_REQUESTS,
    "elicitation-sep1034-defaults": _NO_SERVER_REQUESTS,
    "elicitation-sep1330-enums": _NO_SERVER_REQUESTS,
    "json-schema-2020-12": "the tools' schemas use none of the keywords that have to be preserved",
    "resources-read-binary": "memories are text",
    "resources-subscribe": "resources are not subscribed to; the capability is not declared",
    "resources-unsubscribe": "resources are not subscribed to; the capability is not declared",
    "prompts-get-embedded-resource": "the prompt is text",
    "prompts-get-with-image": "the prompt is text",
    "http-custom-header-server-validation": "no tool mirrors an argument in a header",
    **{
        f"input-required-result-{name}": _NO_SERVER_REQUESTS
        for name in (
            *("basic-elicitation", "basic-sampling", "basic-list-roots", "request-state"),
            *("multiple-input-requests", "multi-round", "non-tool-request", "result-type"),
            *("tampered-state", "capability-check"),
        )
    },
}
# Checks of other scenarios that fail because they need such a tool.
LEFT_OUT_CHECKS: Mapping[str, str] = {
    "sep-2575-server-rejects-undeclared-capability": _NO_SERVER_REQUESTS,
    "sep-2575-missing-capability-http-400": _NO_SERVER_REQUESTS,
    "sep-2575-http-server-no-independent-requests-on-stream": _NO_SERVER_REQUESTS,
    "sep-2575-server-no-log-without-loglevel": "protocol logging is deprecated",
}
# Scenarios about names of the program's own; a proxy renames them to what this server has.
RENAMED = (
    "tools-call-simple-text",
    "tools-call-error",
    "resources-read-text",
    "resources-templates-read",
    "prompts-get-simple",
    "prompts-get-with-args",
)
Statuses = Mapping[str, Mapping[str, str]]  # by scenario and check


@pytest.fixture(scope="module")
def suite() -> NodeSuite:
    return fetched_suite()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Without keys, on loopback: the program sends none."""
    data_dir = tmp_path_factory.mktemp("conformance") / "data"
    async with running_stack(data_dir=data_dir, mcp_user_id="ada") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def block_id(stack: Stack) -> str:
    """Of a memory that contains what the program looks for."""
    async with httpx2.AsyncClient(base_url=stack.base_url + BASE_PATH, trust_env=False) as http:
        body = {"user_id": "ada", "content": f"Memory 123 mentions {TOPIC}."}
        return str((await http.post("/blocks", json=body)).json()["id"])


async def applicable(suite: NodeSuite, version: str) -> set[str]:
    """The server scenarios that the program lists for a version, without extensions."""
    printed = await suite.run(PROGRAM, "list", "--server", seconds_max=60)
    lines = printed.partition("Client scenarios")[0].splitlines()
    found = {
        line.split()[1] for line in lines if line.startswith("  - ") and version in line.split()[2]
    }
    assert "tools-list" in found
    return found


async def ran(suite: NodeSuite, url: str, folder: Path, *selected: str) -> Statuses:
    """The status of each check. The program exits with 1 if any check failed, so it is ignored."""
    arguments = [PROGRAM, "server", "--url", url, "-o", str(folder), *selected]
    process = await asyncio.create_subprocess_exec(
        suite.node, *arguments, cwd=suite.folder, stdout=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(600):
        await process.wait()
    return _statuses(folder)


def _statuses(folder: Path) -> Statuses:
    found: dict[str, dict[str, str]] = {}
    for path in folder.glob("server-*/checks.json"):
        # server-NAME-2026-11-30T09-11-33-615Z
        name = path.parent.name.removeprefix("server-")[:-25]
        checks = json.loads(path.read_text(encoding="utf-8"))
        found[name] = {check["id"]: f"{check['status']} {check}" for check in checks}
    return found


def failures(statuses: Mapping[str, str]) -> set[str]:
    """A check that is skipped concerns a capability that is not declared."""
    return {
        f"{check}: {status}"
        for check, status in statuses.items()
        if status.startswith("FAILURE") and check not in LEFT_OUT_CHECKS
    }


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_scenario_that_concerns_the_server_passes(
    suite: NodeSuite, stack: Stack, tmp_path: Path, version: str
) -> None:
    selected = ("--suite", "all", "--spec-version", version)
    found = await ran(suite, f"{stack.base_url}/mcp", tmp_path, *selected)
    assert set(found) == await applicable(suite, version)
    for scenario in set(found) - set(LEFT_OUT) - set(RENAMED):
        assert not failures(found[scenario]), scenario
        assert any(not status.startswith("FAILURE") for status in found[scenario].values())
    # A scenario that passes has no reason to be left out any more.
    for scenario in set(found) & {*LEFT_OUT, *RENAMED}:
        assert failures(found[scenario]), scenario


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scenario", RENAMED)
async def test_scenarios_about_names_of_their_own_pass_under_ours(
    suite: NodeSuite, stack: Stack, block_id: str, tmp_path: Path, version: str, scenario: str
) -> None:
    async with renaming_proxy(f"{stack.base_url}/mcp", _to_ours(block_id)) as url:
        selected = ("--scenario", scenario, "--spec-version", version)
        found = await ran(suite, url, tmp_path, *selected)
    assert not failures(found[scenario])
    assert scenario in found[scenario], "the scenario's main check ran"


def _to_ours(block_id: str) -> Callable[[dict[str, Any]], None]:
    uri = f"memory://blocks/{block_id}"

    def rename(params: dict[str, Any]) -> None:
        match str(params.get("name") or params.get("uri")):
            case "test_simple_text":
                params |= {"name": "get_context", "arguments": {"query": TOPIC}}
            case "test_error_handling":
                params |= {"name": "get_memory", "arguments": {"id": str(uuid4())}}
            case "test://static-text" | "test://template/123/data":
                params["uri"] = uri
            case "test_simple_prompt":
                params |= {"name": "recall", "arguments": {"topic": TOPIC}}
            case "test_prompt_with_arguments":
                given = params["arguments"]
                topic = f"{given['arg1']} and {given['arg2']}"
                params |= {"name": "recall", "arguments": {"topic": topic}}
            case _:
                pass  # a request that names nothing

    return rename


async def test_what_is_left_out_is_still_a_scenario(suite: NodeSuite) -> None:
    listed = {name for version in VERSIONS for name in await applicable(suite, version)}
    assert {*LEFT_OUT, *RENAMED} <= listed


async def test_what_is_left_out_is_documented_with_its_reason() -> None:
    page = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name, reason in {**LEFT_OUT, **LEFT_OUT_CHECKS}.items():
        assert any(f"`{name}`" in row and row.endswith(f"| {reason} |") for row in rows), name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeyedService]:
    async with running_keyed_service(tmp_path_factory.mktemp("clients") / "data") as running:
        yield running


@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize("client", ["v2 pinned", "v2", "v1"])
async def test_the_typescript_clients_list_and_call_every_tool(
    suite: NodeSuite, api: KeyedService, transport: str, client: str
) -> None:
    key = await api.key("ingest", "read", user_id="grace")
    sdk, _, pinned = client.partition(" ")
    given: dict[str, Any] = {"sdk": sdk, "key": key}
    given["statement"] = f"The lantern{uuid4().hex[:8]} festival takes place in March."
    if pinned:
        given["pin"] = VERSIONS[0]
    if transport == "http":
        given["url"] = f"{api.stack.base_url}/mcp"
    else:
        environment = {
            "MEMORY_API_URL": api.stack.base_url,
            "MEMORY_API_KEY": key,
            "MEMORY_MCP_USER_ID": "grace",
        }
        started = stdio_parameters(environment)
        given |= {"command": started.command, "args": started.args, "env": started.env}
    report = await suite.session(given)
    names = [tool.name for tool in TOOLS]
    assert report["tools"] == names
    assert set(report["called"]) == set(names)
    called, statement = report["called"], given["statement"]
    (added,) = called["add_memory"]["memories"]
    assert called["search_memories"]["memories"][0]["id"] == added["id"]
    assert statement in called["get_context"]["text"]
    assert called["get_memory"]["text"] == statement
    assert called["get_job_status"]["id"] == added["job_id"]
    assert called["update_memory"]["id"] == added["id"]
    assert called["delete_memory"]["text"] == f"{statement} Corrected."
    assert f"{statement} Corrected." in report["resource"]
    assert statement in report["prompt"]
    assert report["missing"]["isError"] is True
    assert report["missing"]["_meta"]["luma-memory/error"]["code"] == "block_not_found"
    assert len(report["templates"]) == 2
    # Nothing is left behind for the Python SDK either.
    async with over_http(api.stack.base_url, key=key) as python:
        found = await python.call_tool("search_memories", {"query": statement})
        assert found.structured_content is not None
        assert found.structured_content["memories"] == []
