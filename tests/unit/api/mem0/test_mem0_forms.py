"""Blocks, events and messages in mem0's form."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from luma_memory.api.mem0.bodies import MESSAGES_MAX, AddBody, SearchBody
from luma_memory.api.mem0.events import event, event_id, event_status, read_event_id
from luma_memory.api.mem0.memories import history, memory, only
from luma_memory.api.mem0.messages import new_blocks
from luma_memory.domain.access import EVERY_PERMISSION, Caller
from luma_memory.domain.block import Block, NewBlock
from luma_memory.domain.errors import Forbidden, Invalid, NotOffered
from luma_memory.domain.revision import BlockRevision
from luma_memory.domain.scope import Scope

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
CALLER = Caller("shop", frozenset(EVERY_PERMISSION))
BLOCK = Block(
    id=UUID("0198f3a2-7c11-7abc-9def-0123456789ab"),
    scope=Scope("shop", "ana"),
    content="I live in Lisbon.",
    status="active",
    enrichment="local",
    occurred_at=NOW,
    created_at=NOW,
    updated_at=NOW,
    revision=1,
    speaker="user",
    agent_id="bot",
    session_id="r1",
    metadata={"app_id": "web", "k": 1},
    tags=("lisbon",),
    expires_at=datetime(2026, 3, 6, tzinfo=UTC),
)


def test_a_memory() -> None:
    assert memory(BLOCK, score=0.5) == {
        "id": str(BLOCK.id),
        "memory": "I live in Lisbon.",
        "user_id": "ana",
        "agent_id": "bot",
        "app_id": "web",
        "run_id": "r1",
        "actor_id": "user",
        "hash": "6109ecee87f865b222d6757d1e0dcbb3",
        "metadata": {"app_id": "web", "k": 1},
        "categories": ["lisbon"],
        "created_at": "2026-03-04T12:00:00+00:00",
        "updated_at": "2026-03-04T12:00:00+00:00",
        "expiration_date": "2026-03-05",
        "score": 0.5,
    }
    assert only(memory(BLOCK), ["memory"]) == {"id": str(BLOCK.id), "memory": "I live in Lisbon."}
    of_agent = replace(BLOCK, scope=Scope("shop", "mem0:agent:bot"))
    assert memory(of_agent)["user_id"] is None


def test_a_history_has_the_edits_and_not_the_enrichment() -> None:
    def revision(number: int, reason: Any, content: str) -> BlockRevision:
        before = {"content": content}
        return BlockRevision(number, number, reason, "key", before, NOW + timedelta(hours=number))

    revisions = [
        revision(9, "edit", "I live in Porto."),
        revision(8, "enrichment", "I live in Porto."),
        revision(7, "edit", "I live in Faro."),
    ]
    found = history(BLOCK, revisions)
    assert [(one["event"], one["old_memory"], one["new_memory"]) for one in found] == [
        ("ADD", None, "I live in Faro."),
        ("UPDATE", "I live in Faro.", "I live in Porto."),
        ("UPDATE", "I live in Porto.", "I live in Lisbon."),
    ]
    assert len({one["id"] for one in found}) == 3
    assert found == history(BLOCK, revisions)  # ids are stable


@given(st.text(min_size=1, max_size=256).filter(lambda text: "\x00" not in text), st.integers(1, 9))
def test_an_events_id_is_read_back(name: str, count: int) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    ids = [uuid4() for _ in range(count)]
    assert read_event_id(event_id(name, ids)) == (name, ids)


@given(st.text(max_size=60) | st.text(alphabet="AZaz09-_", max_size=80).map(lambda t: f"evt_{t}"))
def test_what_is_no_events_id_is_none(text: str) -> None:
    parsed = read_event_id(text)
    assert parsed is None or len(parsed[1]) >= 1


def _block(status: Any) -> Block:
    return replace(BLOCK, status=status)


class _Job:
    def __init__(self, status: str, *, started: bool = False) -> None:
        self.status, self.started_at = status, NOW if started else None
        self.last_error = None


@pytest.mark.parametrize(
    ("statuses", "jobs", "expected"),
    [
        (["pending_enrichment", "pending_enrichment"], [_Job("pending")], "PENDING"),
        (["pending_enrichment"], [_Job("processing", started=True)], "RUNNING"),
        (["pending_enrichment", "active"], [_Job("pending")], "RUNNING"),
        (["active", "active"], [], "SUCCEEDED"),
        (["active", "failed"], [], "FAILED"),
        (["pending_enrichment"], [_Job("cancelled")], "FAILED"),
    ],
)
def test_an_event_moves_with_its_jobs(statuses: Any, jobs: Any, expected: str) -> None:
    blocks = [_block(status) for status in statuses]
    assert event_status(blocks, jobs) == expected
    assert event("evt_x", blocks, jobs)["status"] == expected


def blocks_of(body: dict[str, Any], caller: Caller = CALLER) -> list[NewBlock]:
    made = AddBody.model_validate({"user_id": "ana", **body})
    return list(new_blocks(made, caller=caller, header_key=None, now=NOW))


def test_messages_become_blocks_with_their_speakers() -> None:
    made = blocks_of(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "I moved.", "name": "Ana"},
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "tool", "content": "22 degrees"},
                {"role": "assistant", "content": [{"type": "text", "text": "Nice."}]},
            ],
            "agent_id": "bot",
            "run_id": "r1",
            "app_id": "web",
            "metadata": {"k": 1},
            "timestamp": 1_700_000_000,
            "expiration_date": "2027-01-31",
        }
    )
    assert [(one.speaker, one.content) for one in made] == [
        ("Ana", "I moved."),
        ("assistant", "Nice."),
    ]
    first = made[0]
    assert (first.agent_id, first.session_id, first.source) == ("bot", "r1", "mem0")
    assert first.metadata == {"k": 1, "app_id": "web"}
    assert first.occurred_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert first.expires_at == datetime(2027, 2, 1, tzinfo=UTC)


def test_without_inference_results_of_tools_are_stored_too() -> None:
    said = [{"role": "tool", "content": "22 degrees"}, {"role": "system", "content": "Be brief."}]
    assert [one.speaker for one in blocks_of({"messages": said, "infer": False})] == ["tool"]
    with pytest.raises(Invalid, match="a text of the user or the assistant"):
        blocks_of({"messages": said})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": [7]}, "messages.0 must be an object"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role must be one of"),
        ({"messages": [{"content": 7}]}, "messages.0.content must be a text"),
        ({"messages": []}, "a text of the user"),
        ({"messages": ["x"] * (MESSAGES_MAX + 1)}, "at most 200"),
        ({"messages": "x" * 100_001}, "messages.0.content: must have at most 100,000"),
        ({"messages": "x\x00"}, "messages.0.content: must not contain the character NUL"),
        ({"messages": "x", "filters": {"color": "blue"}}, "filters of an add may hold"),
        ({"messages": "x", "filters": {"user_id": "bob"}}, "user_id is given twice"),
    ],
)
def test_a_wrong_add_names_its_place(body: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        blocks_of(body)


def test_ids_may_come_in_the_filters_of_an_add() -> None:
    body = AddBody.model_validate({"messages": "x", "filters": {"user_id": "bob", "run_id": "r"}})
    (made,) = new_blocks(body, caller=CALLER, header_key="key", now=NOW)
    assert (made.scope.user_id, made.session_id) == ("bob", "r")
    assert made.idempotency_key == "key:0"


def test_images_and_documents_are_not_offered() -> None:
    content = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    with pytest.raises(NotOffered, match="images or documents"):
        blocks_of({"messages": [{"role": "user", "content": content}]})


def test_another_users_memory_is_refused() -> None:
    with pytest.raises(Forbidden):
        blocks_of({"messages": "x"}, Caller("shop", CALLER.permissions, user_id="bob"))


def test_a_field_that_is_not_offered_is_refused_and_its_default_is_not() -> None:
    AddBody.model_validate({"messages": "x", "custom_categories": []}).check_offered()
    with pytest.raises(NotOffered, match="custom instructions"):
        AddBody.model_validate({"messages": "x", "custom_instructions": "y"}).check_offered()
    with pytest.raises(NotOffered, match="a reference date"):
        SearchBody.model_validate({"query": "x", "reference_date": "2026-01-01"}).check_offered()


@pytest.mark.parametrize(
    "wrong",
    [
        {"timestamp": "soon"},
        {"timestamp": True},
        {"timestamp": 1e300},
        {"timestamp": float("nan")},
        {"timestamp": "9999-12-31T23:59:59+00:00"},
        {"expiration_date": "2026-02-30"},
        {"expiration_date": 7},
        {"user_id": "x" * 257},
        {"unknown": 1},
        {"async_mode": False},
    ],
)
def test_a_wrong_field_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AddBody.model_validate({"messages": "x", **wrong})
