"""LumaMemoryTool beside the SDK's own tool on a local folder."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from anthropic.lib.tools import ToolError
from anthropic.tools import BetaLocalFilesystemMemoryTool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luma_memory.integrations.anthropic import LumaAsyncMemoryTool, LumaMemoryTool

PATHS = st.sampled_from(
    [
        "/memories",
        "/memories/",
        "/memories/a.txt",
        "/memories/b.txt",
        "/memories/dir",
        "/memories/dir/a.txt",
        "/memories/dir/deep/er/c.txt",
        "/memories/.hidden",
        "/memories/dir/../b.txt",
        "/memories//a.txt",
        "/memories/dir/é 🐈.md",
        "/memories/../etc/passwd",
        "/etc/passwd",
        "/memoriesx",
    ]
)
TEXTS = st.one_of(
    st.sampled_from(["", "one\ntwo\nthree\n", "one\none", "no newline", "a\r\nb\r\n", "\n\n"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
WORDS = st.sampled_from(["one", "two", "\n", "", "a\r", "zebra", "one\ntwo"])
RANGES = st.one_of(st.none(), st.tuples(st.integers(-1, 5), st.integers(-1, 6)).map(list))
COMMANDS = st.one_of(
    st.fixed_dictionaries({"command": st.just("view"), "path": PATHS, "view_range": RANGES}),
    st.fixed_dictionaries({"command": st.just("view"), "path": PATHS}),
    st.fixed_dictionaries({"command": st.just("create"), "path": PATHS, "file_text": TEXTS}),
    st.fixed_dictionaries({"command": st.just("create"), "path": PATHS, "file_text": TEXTS}),
    st.fixed_dictionaries(
        {"command": st.just("str_replace"), "path": PATHS, "old_str": WORDS, "new_str": WORDS}
    ),
    st.fixed_dictionaries(
        {
            "command": st.just("insert"),
            "path": PATHS,
            "insert_line": st.integers(-1, 4),
            "insert_text": TEXTS,
        }
    ),
    st.fixed_dictionaries({"command": st.just("delete"), "path": PATHS}),
    st.fixed_dictionaries({"command": st.just("rename"), "old_path": PATHS, "new_path": PATHS}),
)
# What a folder's own size is depends on the file system.
_FOLDER_SIZE = re.compile(r"(?m)^\S+\t(?=.*/$)")


def outcome(call: Callable[[Any], Any], command: dict[str, Any]) -> tuple[str, str]:
    try:
        result = call(command)
    except ToolError as error:
        return "error", str(error)
    except OSError:
        # The SDK's tool lets errors of the file system pass; a message of ours stands for them.
        return "error", "OSError"
    if result.startswith("Here're the files"):
        header, own, *rest = result.split("\n")
        result = "\n".join([header, own.partition("\t")[2], *rest])
    return "result", _FOLDER_SIZE.sub("-\t", result)


def test_random_commands_have_the_sdks_own_results(url: str) -> None:
    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(commands=st.lists(COMMANDS, max_size=14))
    def compare(commands: list[dict[str, Any]]) -> None:
        ours = LumaMemoryTool(url, user_id=f"user-{uuid4()}")
        with tempfile.TemporaryDirectory() as folder:
            theirs = BetaLocalFilesystemMemoryTool(folder)
            for command in commands:
                expected = outcome(theirs.call, command)
                found = outcome(ours.call, command)
                if expected == ("error", "OSError"):
                    assert found[0] == "error", command
                else:
                    assert found == expected, command

    compare()


def test_of_two_edits_of_one_place_one_gets_the_tools_error(url: str, user: str) -> None:
    tool = LumaMemoryTool(url, user_id=user)
    path = "/memories/plan.md"
    tool.call({"command": "create", "path": path, "file_text": "start\nkeep\n"})

    def edit(n: int) -> tuple[str, str]:
        one = LumaMemoryTool(url, user_id=user)
        return outcome(
            one.call,
            {"command": "str_replace", "path": path, "old_str": "start", "new_str": f"by {n}"},
        )

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(edit, range(8)))
    assert [kind for kind, _ in outcomes].count("result") == 1
    message = f"No replacement was performed, old_str `start` did not appear verbatim in {path}."
    assert {text for kind, text in outcomes if kind == "error"} == {message}


def test_concurrent_inserts_are_all_kept(url: str, user: str) -> None:
    tool = LumaMemoryTool(url, user_id=user)
    path = "/memories/list.md"
    tool.call({"command": "create", "path": path, "file_text": ""})

    def insert(n: int) -> Any:
        command = {"command": "insert", "path": path, "insert_line": 0, "insert_text": f"line {n}"}
        return LumaMemoryTool(url, user_id=user).call(command)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(insert, range(6)))
    shown = str(tool.call({"command": "view", "path": path}))
    assert all(f"line {n}" in shown for n in range(6))


def test_a_file_is_created_and_renamed_once(url: str, user: str) -> None:
    def create(n: int) -> tuple[str, str]:
        command = {"command": "create", "path": "/memories/x/one.md", "file_text": str(n)}
        return outcome(LumaMemoryTool(url, user_id=user).call, command)

    def rename(n: int) -> tuple[str, str]:
        command = {
            "command": "rename",
            "old_path": "/memories/x/one.md",
            "new_path": f"/memories/y/{n}.md",
        }
        return outcome(LumaMemoryTool(url, user_id=user).call, command)

    with ThreadPoolExecutor(6) as threads:
        created = [kind for kind, _ in threads.map(create, range(6))]
        renamed = [kind for kind, _ in threads.map(rename, range(6))]
    assert created.count("result") == 1
    assert renamed.count("result") == 1
    tool = LumaMemoryTool(url, user_id=user)
    listing = str(tool.call({"command": "view", "path": "/memories/y"}))
    assert listing.count(".md") == 1


def test_a_folder_moves_whole_beside_writers_and_other_movers(url: str, user: str) -> None:
    tool = LumaMemoryTool(url, user_id=user)
    for n in range(4):
        path = f"/memories/old/{n}.md"
        tool.call({"command": "create", "path": path, "file_text": "start\n"})

    def write(n: int) -> bool:
        path = f"/memories/old/{n}.md"
        command = {"command": "insert", "path": path, "insert_line": 0, "insert_text": "written"}
        return outcome(LumaMemoryTool(url, user_id=user).call, command)[0] == "result"

    def move(n: int) -> bool:
        command = {
            "command": "rename",
            "old_path": "/memories/old",
            "new_path": f"/memories/new{n}",
        }
        return outcome(LumaMemoryTool(url, user_id=user).call, command)[0] == "result"

    with ThreadPoolExecutor(7) as threads:
        writing = [threads.submit(write, n) for n in range(4)]
        moving = [threads.submit(move, n) for n in range(3)]
        written = [one.result() for one in writing]
        moved = [one.result() for one in moving]
    assert moved.count(True) == 1
    folder = f"/memories/new{moved.index(True)}"
    listing = str(tool.call({"command": "view", "path": "/memories"}))
    assert listing.count(".md") == 4
    for n in range(4):
        text = str(tool.call({"command": "view", "path": f"{folder}/{n}.md"}))
        assert ("written" in text) == written[n]


async def test_the_asynchronous_tool(url: str, user: str) -> None:
    tool = LumaAsyncMemoryTool(url, user_id=user)
    await tool.call({"command": "create", "path": "/memories/a", "file_text": "b"})
    assert "b" in str(await tool.call({"command": "view", "path": "/memories/a"}))
    with pytest.raises(ToolError):
        await tool.call({"command": "create", "path": "/memories/a", "file_text": "b"})
    await tool.clear_all_memory()
    assert tool.to_dict()["type"] == "memory_20250818"
