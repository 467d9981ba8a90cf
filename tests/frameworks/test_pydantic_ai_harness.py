"""LumaMemoryStore beside the harness's own store in memory, and in an agent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_harness.memory import (
    InMemoryStore,
    Memory,
    MemoryConflictError,
    MemoryOperation,
    MemoryOperationConflictError,
    MetadataMemoryStore,
    SearchableMemoryStore,
)

from luma_memory.client import AsyncMemoryClient
from luma_memory.integrations.anthropic import LumaMemoryTool
from luma_memory.integrations.files import FILES
from luma_memory.integrations.pydantic_ai_harness import OPERATIONS, LumaMemoryStore

PATHS = st.sampled_from(
    [
        *("main/MEMORY.md", "main/a.md", "main/deep/b.md", "main", "other/a.md"),
        *("../a", "a/./b", "a b", ""),
    ]
)
TEXTS = st.sampled_from(["", "one", "one\ntwo", "a\x00b", "é 🐈", "x" * 40])
# An index into the versions that were seen, or one that no file has.
VERSIONS = st.one_of(st.none(), st.integers(-1, 5), st.sampled_from(["*", "é", 'a"b', "1"]))
OPERATION = st.one_of(
    st.none(),
    st.builds(MemoryOperation, st.sampled_from(["o1", "o2"]), st.sampled_from(["f", "g"])),
)
METADATA = st.sampled_from(
    [None, {}, {"by": "agent"}, {"by": 1}, {"a": "\x00"}, {"a": "x" * 5_000}]
)
STEPS = st.one_of(
    st.tuples(st.just("write_with_metadata"), PATHS, TEXTS, VERSIONS, METADATA, OPERATION),
    st.tuples(st.just("write_with_metadata"), PATHS, TEXTS, VERSIONS, st.none(), OPERATION),
    st.tuples(st.just("delete"), PATHS, VERSIONS, OPERATION),
    st.tuples(st.just("read"), PATHS, st.integers(0, 5)),
    st.tuples(st.just("get_operation"), OPERATION),
    st.tuples(
        st.just("list_paths"), st.sampled_from(["", "main", "main/", "m", "x"]), st.integers(0, 3)
    ),
)


class Side:
    """One store, and its versions by the order in which they were seen."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._versions: list[str] = []

    async def run(self, step: tuple[Any, ...]) -> Any:
        """The result with versions as their numbers, or the kind of the error."""
        try:
            return self._numbered(await self._call(*step))
        except (
            MemoryConflictError,
            MemoryOperationConflictError,
            TypeError,
            ValueError,
        ) as error:
            return type(error).__name__

    async def _call(self, name: str, *arguments: Any) -> Any:
        store = self._store
        if name == "write_with_metadata":
            path, text, version, metadata, operation = arguments
            return await store.write_with_metadata(
                path,
                text,
                expected_version=self._version(version),
                metadata=metadata,
                operation=operation,
            )
        if name == "delete":
            path, version, operation = arguments
            expected = self._version(version)
            return await store.delete(path, expected_version=expected, operation=operation)
        if name == "read":
            return await store.read(arguments[0], max_chars=arguments[1])
        if name == "list_paths":
            return await store.list_paths(arguments[0], limit=arguments[1])
        return None if arguments[0] is None else await store.get_operation(arguments[0])

    def _version(self, version: int | str | None) -> str | None:
        if isinstance(version, int):
            # The latest ones are the likely ones to fit.
            return self._versions[-1 - version] if 0 <= version < len(self._versions) else "none"
        return f"no-{version}" if version == "1" else version

    def _numbered(self, result: Any) -> Any:
        version = getattr(result, "version", None)
        if version is None:
            return result
        if version not in self._versions:
            self._versions.append(version)
        return replace(result, version=str(self._versions.index(version)))


async def test_random_calls_have_the_results_of_the_harness_own_store(url: str) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps=st.lists(STEPS, max_size=12))
    def compare(steps: list[tuple[Any, ...]]) -> None:
        async def run() -> None:
            store = LumaMemoryStore(url, user_id=f"user-{uuid4()}")
            ours, theirs = Side(store), Side(InMemoryStore())
            for number, step in enumerate(steps):
                # A text of its own: a write that changes nothing keeps its version here.
                if step[0] == "write_with_metadata":
                    step = (*step[:2], f"{step[2]}{number}", *step[3:])
                expected = await theirs.run(step)
                assert await ours.run(step) == expected, step
            await store.aclose()

        asyncio.run(run())

    await asyncio.to_thread(compare)


async def test_of_concurrent_writers_of_one_version_one_wins(url: str, user: str) -> None:
    store = LumaMemoryStore(url, user_id=user)
    first = await store.write("main/a.md", "0", expected_version=None)
    results = await asyncio.gather(
        *(
            store.write("main/a.md", str(number), expected_version=first.version)
            for number in range(1, 21)
        ),
        return_exceptions=True,
    )
    won = [number for number, one in enumerate(results, 1) if not isinstance(one, Exception)]
    assert len(won) == 1
    assert all(
        isinstance(one, MemoryConflictError) for one in results if isinstance(one, Exception)
    )
    file = await store.read("main/a.md", max_chars=10)
    assert file is not None
    assert file.content == str(won[0])


@pytest.mark.parametrize("change", ["write", "delete"])
async def test_an_operation_whose_receipt_was_lost_is_not_carried_out_again(
    url: str, user: str, change: str
) -> None:
    store = LumaMemoryStore(url, user_id=user)
    file = await store.write("main/a.md", "tea", expected_version=None)
    operation = MemoryOperation("run-1", "append coffee")
    if change == "write":
        done = await store.write(
            "main/a.md", "tea, coffee", expected_version=file.version, operation=operation
        )
    else:
        done = await store.delete("main/a.md", expected_version=file.version, operation=operation)
    async with AsyncMemoryClient(url) as client:
        async for receipt in client.iterate_items(OPERATIONS, user_id=user):
            await client.delete_item(OPERATIONS, receipt.key, user_id=user)
    assert await store.get_operation(operation) is None
    # As the harness does it: read again, change what is there now.
    if change == "write":
        again = await store.write(
            "main/a.md", "tea, coffee, coffee", expected_version=done.version, operation=operation
        )
        after = await store.read("main/a.md", max_chars=100)
        assert after is not None
        assert (after.content, after.version) == ("tea, coffee", again.version)
    else:
        other = await store.write("main/a.md", "new", expected_version=None)
        again = await store.delete("main/a.md", expected_version=other.version, operation=operation)
        assert await store.read("main/a.md", max_chars=100) is not None
    assert again.replayed
    assert (await store.get_operation(operation)) is not None


async def test_search_finds_by_meaning_below_its_prefix_and_within_its_bounds(
    url: str, user: str
) -> None:
    store = LumaMemoryStore(url, user_id=user)
    assert isinstance(store, MetadataMemoryStore)
    assert isinstance(store, SearchableMemoryStore)
    texts = {
        "main/pets.md": "The cat is called Mia and sleeps a lot." + " Filler." * 100,
        "main/travel.md": "The ferry to Naxos leaves at noon.",
        "main/deep/pets.md": "The cat of another agent.",
        "other/pets.md": "The cat of yet another agent.",
    }
    for path, text in texts.items():
        await store.write(path, text, expected_version=None)
    bounds: dict[str, int] = {"limit": 10, "max_files": 100, "max_chars": 500, "max_file_chars": 60}
    found = await store.search("main/", "cat", **bounds)
    assert found.matches[0].path == "main/pets.md"
    assert {match.path for match in found.matches} <= {"main/pets.md", "main/travel.md"}
    assert found.matches[0].snippet in texts["main/pets.md"][:60]
    few = await store.search("main/", "cat ferry", **{**bounds, "limit": 1})
    assert (len(few.matches), few.truncated) == (1, True)
    short = await store.search("main/", "cat", **{**bounds, "max_chars": 20})
    assert sum(len(match.path) - 5 + len(match.snippet) for match in short.matches) <= 20
    assert (await store.search("main/", "  ", **bounds)).matches == []


async def test_files_are_those_of_the_memory_tool(url: str, user: str) -> None:
    store = LumaMemoryStore(url, user_id=user)
    await store.write("main/a.md", "tea", expected_version=None)
    tool = LumaMemoryTool(url, user_id=user)
    command: Any = {"command": "view", "path": "/memories"}
    listing = await asyncio.to_thread(tool.call, command)
    assert "/memories/main/\n" in f"{listing}\n"
    assert "/memories/main/a.md" in str(listing)
    edit: Any = {"command": "str_replace", "path": "/memories/main/a.md"}
    await asyncio.to_thread(tool.call, {**edit, "old_str": "tea", "new_str": "coffee"})
    file = await store.read("main/a.md", max_chars=100)
    assert file is not None
    assert (file.content, file.operation_id) == ("coffee", None)
    assert await store.list_paths(limit=10) == ["main/a.md"]
    # A folder is no file, and gives way to one.
    assert await store.read("main", max_chars=1) is None
    await store.write("main", "a file", expected_version=None)
    async with AsyncMemoryClient(url) as client:
        item = await client.get_item(FILES, "main", user_id=user)
    assert item is not None
    assert item.value == {"text": "a file"}


async def test_what_is_too_large_is_a_value_error(url: str, user: str) -> None:
    store = LumaMemoryStore(url, user_id=user)
    with pytest.raises(ValueError, match="cannot be stored"):
        await store.write("main/a.md", "x" * 300_000, expected_version=None)
    with pytest.raises(ValueError, match="invalid memory path"):
        await store.write("/".join(["a" * 150] * 2), "x", expected_version=None)


async def test_an_agent_keeps_its_notebook(url: str, user: str) -> None:
    def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return ModelResponse(parts=[TextPart(str(last.content))])
        if "write_memory" not in {tool.name for tool in info.function_tools}:
            return ModelResponse(parts=[TextPart("no tool")])
        text = "\n".join(str(getattr(part, "content", "")) for part in messages[-1].parts)
        if "Where" in text:
            return ModelResponse(parts=[TextPart(text)])
        return ModelResponse(
            parts=[ToolCallPart("write_memory", {"content": "Ines lives in Porto."})]
        )

    for _ in range(2):  # a later process has the notebook of the first one
        store = LumaMemoryStore(url, user_id=user)
        agent = Agent(FunctionModel(script), capabilities=[Memory(store)])
        await agent.run("My sister Ines lives in Porto.")
    result = await agent.run("Where does Ines live?")
    assert "Ines lives in Porto." in result.output
