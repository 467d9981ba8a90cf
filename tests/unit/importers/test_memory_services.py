"""Exports of other memory services: mem0, Graphiti and Zep, Letta."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.exports import blocks, detected, items, reasons, write

MEMORY = {
    "id": "8f1c",
    "memory": "Likes oak",
    "user_id": "ada",
    "agent_id": "helper",
    "run_id": "chat-7",
    "categories": ["hobbies"],
    "metadata": {"source": "form"},
    "created_at": "2026-03-02T09:00:00-07:00",
    "updated_at": "2026-03-03T09:00:00-07:00",
}


@pytest.mark.parametrize("wrap", ["", "results", "memories"])
def test_mem0_in_its_three_forms(tmp_path: Path, wrap: str) -> None:
    memories = [MEMORY, {"id": "2", "memory": " "}, {"memory": "no id"}]
    path = write(tmp_path, {"export.json": {wrap: memories} if wrap else memories})
    found = items(path)
    (block,) = blocks(found)
    assert detected(path) == "mem0"
    assert (block.external_id, block.owner, block.agent_id) == ("mem0:8f1c", "ada", "helper")
    assert block.session_id == "chat-7"
    assert block.metadata == {
        "source": "form",
        "categories": ["hobbies"],
        "updated_at": "2026-03-03T09:00:00-07:00",
    }
    assert block.occurred_at == datetime(2026, 3, 2, 16, tzinfo=UTC)
    assert reasons(found) == ["malformed", "malformed"]


def test_a_graph_gives_episodes_facts_and_summaries(tmp_path: Path) -> None:
    graph: dict[str, Any] = {
        "nodes": [
            {"uuid": "n1", "name": "Ada", "summary": "Builds boats."},
            {"uuid": "n2", "name": "Kiel", "summary": ""},
        ],
        "edges": [
            {
                "uuid": "e1",
                "name": "LIVES_IN",
                "fact": "Ada lives in Kiel.",
                "valid_at": "2026-01-05T00:00:00Z",
            },
            {
                "uuid": "e2",
                "fact": "Ada lives in Bonn.",
                "valid_at": "2020-01-01T00:00:00Z",
                "invalid_at": "2026-01-05T00:00:00Z",
            },
            {"uuid": "e3", "fact": "Ada rows.", "expired_at": "2026-02-01T00:00:00Z"},
        ],
        "episodes": [
            {
                "uuid": "p1",
                "content": "Ada: I moved.",
                "reference_time": "2026-01-05T10:00:00Z",
                "source_description": "chat",
            }
        ],
    }
    path = write(tmp_path, {"graph.json": graph})
    found = items(path)
    assert detected(path) == "graphiti"
    assert [(block.external_id, block.content) for block in blocks(found)] == [
        ("graphiti:n1", "Ada: Builds boats."),
        ("graphiti:e1", "Ada lives in Kiel."),
        ("graphiti:p1", "Ada: I moved."),
    ]
    assert sorted(reasons(found)) == ["empty", "no_longer_true", "no_longer_true"]


def test_a_letta_agent_file(tmp_path: Path) -> None:
    agent = {
        "id": "agent-1",
        "name": "Mate",
        "messages": [
            {
                "id": "m0",
                "role": "system",
                "content": "You are…",
                "created_at": "2026-03-01T00:00:00Z",
            },
            {
                "id": "m1",
                "role": "user",
                "content": [{"type": "text", "text": "Ahoy"}],
                "created_at": "2026-03-01T00:00:01Z",
            },
            {
                "id": "m2",
                "role": "assistant",
                "content": [],
                "tool_calls": [
                    {"function": {"name": "send_message", "arguments": '{"message": "Aye!"}'}}
                ],
            },
            {
                "id": "m3",
                "role": "assistant",
                "tool_calls": [{"function": {"name": "archival_search", "arguments": "{}"}}],
            },
            {"id": "m4", "role": "tool", "content": "{}"},
        ],
    }
    file = {
        "agents": [agent],
        "groups": [],
        "blocks": [
            {"id": "b1", "label": "human", "value": "Name: Ada"},
            {"label": "x", "value": ""},
        ],
        "files": [
            {"id": "f1", "file_name": "plan.md", "content": "Oak first.", "created_at": 1772442000},
            {"id": "f2", "file_name": "plank.png"},
        ],
    }
    path = write(tmp_path, {"mate.af": file})
    found = items(path)
    assert detected(path) == "letta"
    assert [(block.speaker, block.content) for block in blocks(found)] == [
        ("user", "Ahoy"),
        ("assistant", "Aye!"),
        (None, "Name: Ada"),
        (None, "Oak first."),
    ]
    assert blocks(found)[3].metadata == {"file_name": "plan.md"}
    assert blocks(found)[3].occurred_at == datetime(2026, 3, 2, 9, tzinfo=UTC)
    assert blocks(found)[0].agent_id == "Mate"
    assert sorted(reasons(found)) == ["empty", "empty", "system", "tool", "tool"]
