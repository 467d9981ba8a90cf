"""Claude's export: conversations with attachments and branches, projects, memories."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.exports import blocks, detected, items, reasons, write


def message(uuid: str, sender: str, text: str, parent: str = "", **facts: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "sender": sender,
        "text": text,
        "content": [{"type": "text", "text": text}],
        "attachments": [],
        "created_at": "2026-03-02T09:00:00.000000Z",
        "parent_message_uuid": parent,
    } | facts


CONVERSATIONS = [
    {
        "uuid": "c1",
        "name": "Garden",
        "created_at": "2026-03-01T08:00:00Z",
        "updated_at": "2026-03-02T09:30:00Z",
        "chat_messages": [
            message("m1", "human", "When do I sow beans?", "00000000-0000"),
            message("m2", "assistant", "In winter.", "m1"),
            message(
                "m3",
                "assistant",
                "",
                "m1",
                content=[
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "After the last frost."},
                    {"type": "tool_use", "name": "search"},
                ],
            ),
            message(
                "m4",
                "human",
                "Here is my plan.",
                "m3",
                attachments=[{"file_name": "plan.txt", "extracted_content": "Row 1: beans"}],
            ),
            message(
                "m5",
                "assistant",
                "This block is not supported on your current device yet.",
                "m4",
                content=[{"type": "tool_use", "name": "search"}, {"type": "tool_result"}],
            ),
            message("m6", "human", "", "m5", content=[], files=[{"file_name": "plan.png"}]),
            message("m7", "assistant", "", "m6", content=[{"type": "thinking"}]),
            message("m8", "human", "", "m7", content=[]),
        ],
    }
]


def test_messages_attachments_and_the_last_branch(tmp_path: Path) -> None:
    path = write(tmp_path, {"conversations.json": CONVERSATIONS})
    found = items(path)
    assert detected(path) == "claude"
    assert [(block.speaker, block.content, block.external_id) for block in blocks(found)] == [
        ("user", "When do I sow beans?", "claude:m1"),
        ("assistant", "After the last frost.", "claude:m3"),
        ("user", "Here is my plan.", "claude:m4"),
        ("user", "Row 1: beans", "claude:m4:attachment:1"),
    ]
    assert reasons(found) == ["other_branch", "tool", "media", "reasoning", "empty"]
    attachment = blocks(found)[-1]
    assert attachment.metadata == {"title": "Garden", "file_name": "plan.txt"}
    assert attachment.occurred_at == datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_messages_without_parents_are_all_taken(tmp_path: Path) -> None:
    conversation = {
        "uuid": "c2",
        "name": "",
        "created_at": "2026-03-01T08:00:00Z",
        "chat_messages": [
            {"uuid": "a", "sender": "human", "text": "Hola 👋", "content": []},
            {"uuid": "b", "sender": "assistant", "text": "¡Hola!", "content": []},
        ],
    }
    found = blocks(items(write(tmp_path, {"conversations.json": [conversation]})))
    assert [block.content for block in found] == ["Hola 👋", "¡Hola!"]
    assert found[0].occurred_at == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert found[0].metadata == {}


def test_a_damaged_message_leaves_the_others_in_their_branch(tmp_path: Path) -> None:
    question = {"uuid": "a", "sender": "human", "text": "Hola", "parent_message_uuid": "root"}
    reply = {"uuid": "b", "sender": "assistant", "text": "¡Hola!", "parent_message_uuid": "a"}
    for messages in ([question, reply, None], [{"text": "x"}, question, reply]):
        conversation = {"uuid": "c", "name": "", "chat_messages": messages}
        found = items(write(tmp_path, {"conversations.json": [conversation]}))
        assert [block.content for block in blocks(found)] == ["Hola", "¡Hola!"]
        assert reasons(found) == ["malformed"]
    for message in (question, reply):
        del message["parent_message_uuid"]
    conversation = {"uuid": "c", "name": "", "chat_messages": [question, {"text": "x"}, reply]}
    found = items(write(tmp_path, {"conversations.json": [conversation]}))
    assert [block.content for block in blocks(found)] == ["Hola", "¡Hola!"]
    assert reasons(found) == ["malformed"]


def test_projects_and_memories(tmp_path: Path) -> None:
    path = write(
        tmp_path / "export",
        {
            "conversations.json": [],
            "projects.json": [
                {
                    "uuid": "p1",
                    "name": "Shed",
                    "description": "Behind the house",
                    "prompt_template": "Answer in metres.",
                    "created_at": "2026-01-01T00:00:00Z",
                    "docs": [{"uuid": "d1", "filename": "list.md", "content": "Nails"}],
                }
            ],
            "memories.json": [
                {
                    "account_uuid": "me",
                    "conversations_memory": "Has a shed.",
                    "project_memories": {"p1": "Wants a roof."},
                }
            ],
            "users.json": [{"uuid": "me"}],
        },
        zipped=True,
    )
    found = blocks(items(path, format_="claude"))
    assert [block.content for block in found] == [
        *("Behind the house", "Answer in metres.", "Nails", "Has a shed.", "Wants a roof.")
    ]
    assert [block.external_id for block in found[:3]] == [
        *("claude:p1:description", "claude:p1:prompt_template", "claude:d1")
    ]
    assert found[2].metadata == {"title": "Shed", "file_name": "list.md"}
    assert len({block.external_id for block in found}) == 5
