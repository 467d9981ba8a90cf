"""ChatGPT's export: the current branch, what is hidden, and what is no text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.exports import (
    blocks,
    chatgpt_conversation,
    chatgpt_node,
    detected,
    items,
    reasons,
    skipped,
    write,
)

from luma_memory.domain.block import CONTENT_CHARACTERS_MAX

CONVERSATION = chatgpt_conversation(
    chatgpt_node("system", "root", role="system", text="You are helpful."),
    chatgpt_node("asked", "system", text="How do I caulk a plank? ⛵"),
    chatgpt_node("old", "asked", role="assistant", text="With glue."),
    chatgpt_node("told", "asked", role="assistant", text="With cotton and putty."),
    chatgpt_node(
        "hidden",
        "told",
        text="profile",
        metadata={"is_visually_hidden_from_conversation": True},
    ),
    chatgpt_node("search", "hidden", role="tool", text="results"),
    chatgpt_node("code", "search", role="assistant", text="search()", recipient="browser"),
    chatgpt_node(
        "picture",
        "code",
        text=[{"content_type": "image_asset_pointer", "asset_pointer": "file-1"}],
        metadata={"attachments": [{"name": "plank.jpg"}]},
    ),
    chatgpt_node(
        "spoken",
        "picture",
        text=[{"content_type": "audio_transcription", "text": "Danke, das hilft."}, "Bis morgen"],
    ),
    current="spoken",
)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["conversations.json", "conversations-003.json"])
def test_the_current_branch_is_imported_in_order(tmp_path: Path, name: str, zipped: bool) -> None:
    path = write(tmp_path / "export", {name: [CONVERSATION], "user.json": {}}, zipped=zipped)
    found = blocks(items(path))
    assert detected(path) == "chatgpt"
    assert [(block.speaker, block.content) for block in found] == [
        ("user", "How do I caulk a plank? ⛵"),
        ("assistant", "With cotton and putty."),
        ("user", "Danke, das hilft.\n\nBis morgen"),
    ]
    first = found[0]
    assert first.external_id == "chatgpt:asked"
    assert first.session_id == "conversation-1"
    assert first.metadata == {"title": "Boat repairs"}
    assert first.occurred_at == datetime(2026, 3, 2, 9, 0, 0, 500_000, UTC)


def test_what_is_left_out_is_listed_with_its_reason(tmp_path: Path) -> None:
    path = write(tmp_path, {"conversations.json": [CONVERSATION]})
    assert sorted(reasons(items(path))) == [
        *("hidden", "media", "other_branch", "system", "tool", "tool"),
    ]
    assert ("other_branch", "conversations.json: 1: message old") in skipped(items(path))


def test_without_a_current_node_the_newest_leaf_decides(tmp_path: Path) -> None:
    conversation = chatgpt_conversation(
        chatgpt_node("a", "root", text="old", create_time=1.0),
        chatgpt_node("b", "root", text="new", create_time=2.0),
        current="gone",
    )
    found = items(write(tmp_path, {"conversations.json": [conversation]}))
    assert [block.content for block in blocks(found)] == ["new"]


def test_a_message_without_a_time_takes_the_conversations(tmp_path: Path) -> None:
    conversation = chatgpt_conversation(
        chatgpt_node("a", "root", text="hello", create_time=None), current="a"
    )
    (block,) = blocks(items(write(tmp_path, {"conversations.json": [conversation]})))
    assert block.occurred_at == datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_a_circle_of_parents_ends(tmp_path: Path) -> None:
    conversation = chatgpt_conversation(
        chatgpt_node("a", "b", text="one"), chatgpt_node("b", "a", text="two"), current="a"
    )
    found = items(write(tmp_path, {"conversations.json": [conversation]}))
    assert len(blocks(found)) == 2
    assert "malformed" in reasons(found)


def test_a_file_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    path = write(tmp_path, {"conversations.json": [CONVERSATION, CONVERSATION]})
    path.write_bytes(path.read_bytes()[:-400])
    found = items(path, format_="chatgpt")
    assert len(blocks(found)) == 3
    assert skipped(found)[-1] == ("malformed", "conversations.json: after conversation 1")


def test_a_text_too_long_for_a_block_becomes_several(tmp_path: Path) -> None:
    paragraph = "word " * 5_000
    conversation = chatgpt_conversation(
        chatgpt_node("a", "root", text="\n\n".join([paragraph] * 9)), current="a"
    )
    found = blocks(items(write(tmp_path, {"conversations.json": [conversation]})))
    assert [block.external_id for block in found] == [
        *("chatgpt:a", "chatgpt:a#2", "chatgpt:a#3"),
    ]
    assert all(len(block.content) <= CONTENT_CHARACTERS_MAX for block in found)
    assert sum(block.content.count("word") for block in found) == 45_000
