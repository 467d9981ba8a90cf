"""What hosts put into every prompt, and what tools make of arguments and stored texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ResourceLink, TextContent
from tests.support.examples import examples
from tests.support.hostile_texts import IMITATIONS, acting_signs

from luma_memory.domain.errors import InvariantError, StoreUnavailable
from luma_memory.mcp.results import Bounds
from luma_memory.mcp.server import Options, build_server
from luma_memory.mcp.tools import TOOLS, TWINS, offered_tools
from luma_memory.protocol.blocks import BatchItem, BlockBody, BlockEditBody, NewBlockBody
from luma_memory.protocol.context import ContextResponse
from luma_memory.protocol.jobs import JobBody
from luma_memory.protocol.search import SearchHitBody, SearchResponse

NOW = datetime(2026, 3, 2, 18, 30, tzinfo=UTC)
BOUNDS = Bounds(tokens=4_000, preview_characters=500)
any_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1)


def block(content: str, number: int = 1, **fields: Any) -> BlockBody:
    values: dict[str, Any] = {
        name: None
        for name, field in BlockBody.model_fields.items()
        if field.is_required() and type(None) in getattr(field.annotation, "__args__", ())
    }
    values |= {
        "id": UUID(int=number),
        "user_id": "ada",
        "content": content,
        "status": "active",
        "enrichment": "local",
        "metadata": {},
        "occurred_at": NOW,
        "tags": [],
        "entities": [],
        "importance": None,
        "revision": 1,
        "created_at": NOW,
        "updated_at": NOW,
        **fields,
    }
    return BlockBody(**values)


class OneUser:
    """A memory that holds the given blocks, and returns all of them for every query."""

    def __init__(self, *blocks: BlockBody, error: Exception | None = None) -> None:
        self._blocks = blocks
        self._error = error

    def user(self, named: str | None) -> str:
        return named or "ada"

    async def search(
        self, user_id: str, query: str, *, limit: int, filters: Mapping[str, Any] | None
    ) -> SearchResponse:
        if self._error is not None:
            raise self._error
        hits = [SearchHitBody(block=found, score=0.5, relevance=0.9) for found in self._blocks]
        return SearchResponse(results=hits, relevant=True, degraded=[], timings_ms={})

    async def context(
        self, user_id: str, query: str, *, token_budget: int | None, token_budget_max: int
    ) -> ContextResponse:
        values: dict[str, Any] = dict.fromkeys(ContextResponse.model_fields)
        values |= {"text": "", "blocks": [], "citations": [], "degraded": [], "timings_ms": {}}
        return ContextResponse.model_construct(**values)

    async def add(self, blocks: Sequence[NewBlockBody]) -> Sequence[BatchItem]:
        return [
            BatchItem(index=index, id=UUID(int=index), job_id=1, status="pending_enrichment")
            for index, _ in enumerate(blocks)
        ]

    async def get(self, user_id: str, block_id: UUID) -> BlockBody:
        return self._blocks[0]

    async def edit(self, user_id: str, block_id: UUID, changes: BlockEditBody) -> BlockBody:
        return self._blocks[0]

    async def delete(self, user_id: str, block_id: UUID) -> BlockBody | None:
        return self._blocks[0]

    async def job(self, user_id: str | None, job_id: int) -> JobBody:
        raise NotImplementedError


async def called(memory: OneUser, tool: str, arguments: dict[str, Any]) -> CallToolResult:
    server = build_server(Options(BOUNDS, search_fetch=True), lambda _ctx: memory)
    async with Client(server) as client:
        result = await client.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        return result


def text_of(result: CallToolResult) -> str:
    return next(item.text for item in result.content if isinstance(item, TextContent))


def test_the_tools_take_little_of_a_prompt() -> None:
    listed = [tool.described() for tool in TOOLS]
    document = json.dumps([tool.model_dump(by_alias=True, exclude_none=True) for tool in listed])
    assert len(document) < 6_000
    assert [tool.name for tool in listed] == [
        *("search_memories", "get_context", "add_memory", "get_memory"),
        *("update_memory", "delete_memory", "get_job_status"),
    ]


@pytest.mark.parametrize("tool", [*TOOLS, *TWINS], ids=lambda tool: tool.name)
def test_a_tool_is_described_completely(tool: Any) -> None:
    described = tool.described()
    jsonschema.Draft202012Validator.check_schema(described.input_schema)
    jsonschema.Draft202012Validator.check_schema(described.output_schema)
    assert set(described.input_schema["properties"]) == set(tool.arguments.model_fields)
    assert set(described.output_schema["properties"]) == set(tool.result.model_fields)
    assert "$ref" not in json.dumps([described.input_schema, described.output_schema])
    hints = described.annotations.model_dump(exclude_none=True)
    assert len(hints) == 4
    assert hints["open_world_hint"] is False
    assert hints["read_only_hint"] is tool.reads
    assert hints["destructive_hint"] == (tool.name in ("update_memory", "delete_memory"))


def test_a_read_only_server_offers_no_tool_that_writes() -> None:
    names = {tool.name for tool in offered_tools(read_only=True, search_fetch=True)}
    assert names == {
        *("search_memories", "get_context", "get_memory", "get_job_status"),
        *("search", "fetch"),
    }


@pytest.mark.parametrize("stored", IMITATIONS)
async def test_stored_text_stays_inside_its_string(stored: str) -> None:
    memory = OneUser(block(stored, speaker=stored[:200], source=stored[:200]))
    for tool, arguments in (
        ("search_memories", {"query": "x"}),
        ("get_memory", {"id": str(UUID(int=1))}),
        ("delete_memory", {"id": str(UUID(int=1))}),
        ("search", {"query": "x"}),
        ("fetch", {"id": str(UUID(int=1))}),
    ):
        text = text_of(await called(memory, tool, arguments))
        assert "\n" not in text
        assert not acting_signs(text)
        assert json.loads(text)["notice"] if tool not in ("search", "fetch") else True


@settings(max_examples=examples(40))
@given(st.lists(any_text.map(lambda text: text * 40), min_size=1, max_size=50))
async def test_a_result_is_bounded_whatever_is_stored(texts: list[str]) -> None:
    blocks = [block(text, number) for number, text in enumerate(texts, 1)]
    result = await called(OneUser(*blocks), "search_memories", {"query": "x", "limit": 50})
    structured = result.structured_content
    shown = structured["memories"]
    links = [item for item in result.content if isinstance(item, ResourceLink)]
    assert len(shown) + structured["omitted"] == len(blocks)
    assert len(shown) == 1 or len(text_of(result).encode()) <= BOUNDS.copy_bytes
    assert len(links) <= structured["omitted"]
    assert all(len(memory["text"]) <= 500 for memory in shown)
    assert json.loads(text_of(result)) == structured


@settings(max_examples=examples(20))
@given(any_text.map(lambda text: text * 1_000))
async def test_a_long_text_is_read_in_parts_without_a_gap(text: str) -> None:
    text = text[:20_000]
    memory, read, offset = OneUser(block(text)), "", 0
    while offset is not None:
        arguments = {"id": str(UUID(int=1)), "offset": offset}
        part = (await called(memory, "get_memory", arguments)).structured_content
        assert part["text"]
        read, offset = read + part["text"], part.get("next_offset")
    assert read == text


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("search_memories", {}),
    ("search_memories", {"query": ""}),
    ("search_memories", {"query": "a\x00b"}),
    ("search_memories", {"query": "x", "limit": 0}),
    ("search_memories", {"query": "x", "limit": 51}),
    ("search_memories", {"query": "x", "limit": "many"}),
    ("search_memories", {"query": "x", "user": "typo"}),
    ("search_memories", {"query": ["x"]}),
    ("search_memories", {"query": "x" * 10_001}),
    ("add_memory", {}),
    ("add_memory", {"content": "x", "messages": [{"content": "y"}]}),
    ("add_memory", {"messages": []}),
    ("add_memory", {"messages": [{"content": "x"}] * 101}),
    ("add_memory", {"content": "x" * 100_001}),
    ("add_memory", {"content": "x", "metadata": {"deep": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}),
    ("add_memory", {"content": "x", "occurred_at": "yesterday"}),
    ("get_memory", {"id": "secret-value"}),
    ("get_memory", {"id": str(UUID(int=1)), "offset": -1}),
    ("update_memory", {"id": str(UUID(int=1))}),
    ("delete_memory", {"query": "everything"}),
    ("delete_memory", {"id": ["a", "b"]}),
    ("get_job_status", {"id": 2**63}),
]


@pytest.mark.parametrize(("tool", "arguments"), WRONG)
async def test_wrong_arguments_are_a_result_the_model_can_act_on(
    tool: str, arguments: dict[str, Any]
) -> None:
    result = await called(OneUser(block("x")), tool, arguments)
    assert result.is_error
    assert text_of(result).startswith("Error invalid_request: ")
    assert "secret-value" not in text_of(result)
    assert len(text_of(result)) < 2_000


async def test_an_unknown_tool_is_an_error_of_the_protocol() -> None:
    server = build_server(Options(BOUNDS), lambda _ctx: OneUser())
    async with Client(server) as client:
        with pytest.raises(MCPError, match="Unknown tool: delete_all"):
            await client.call_tool("delete_all", {})


async def test_an_outage_is_marked_as_retryable() -> None:
    error = StoreUnavailable("PostgreSQL does not answer")
    result = await called(OneUser(error=error), "search_memories", {"query": "x"})
    assert result.is_error
    assert result.meta is not None
    assert result.meta["luma-memory/error"] == {"code": "database_unavailable", "retryable": True}
    assert "repeat it in a few seconds" in text_of(result)


@pytest.mark.parametrize("error", [InvariantError("secret detail"), ValueError("secret detail")])
async def test_a_bug_is_reported_without_its_details(error: Exception) -> None:
    result = await called(OneUser(error=error), "search_memories", {"query": "x"})
    assert result.is_error
    assert text_of(result).startswith("Error internal: ")
    assert "secret" not in text_of(result)


async def test_lists_and_resources_report_how_long_they_may_be_cached() -> None:
    server = build_server(Options(BOUNDS), lambda _ctx: OneUser(block("x")))
    async with Client(server, mode="2026-07-28") as client:
        for listed in (
            await client.list_tools(),
            await client.list_resources(),
            await client.list_resource_templates(),
            await client.list_prompts(),
        ):
            # The same for every caller, until another version or configuration of the server.
            assert (listed.ttl_ms, listed.cache_scope) == (3_600_000, "public")
        read = await client.read_resource(f"memory://blocks/{UUID(int=1)}")
        assert (read.ttl_ms, read.cache_scope) == (60_000, "private")
        # It changes with every write.
        read = await client.read_resource("memory://users/ada/context")
        assert (read.ttl_ms, read.cache_scope) == (0, "private")
