"""Conversations as blocks, and ranked blocks as ranked items."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from uuid import UUID, uuid4

import pytest

from luma_memory.cli.conversations import (
    StoredConversation,
    item_blocks,
    sessions,
    split_content,
)
from luma_memory.cli.evaluation.dataset import Conversation, Item, read_dataset
from luma_memory.domain.block import CONTENT_CHARACTERS_MAX
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.search import SearchHitBody, SearchResponse

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def search_response(*ids: UUID) -> SearchResponse:
    return SearchResponse(
        results=[
            SearchHitBody(block=block(block_id), score=0.5, relevance=0.9) for block_id in ids
        ],
        relevant=True,
        degraded=[],
        timings_ms={},
    )


def block(block_id: UUID) -> BlockBody:
    empty = dict.fromkeys(BlockBody.model_fields)
    known = {
        "id": block_id,
        "user_id": "u",
        "content": "x",
        "status": "active",
        "enrichment": "local",
        "metadata": {},
        "repeat_count": 0,
        "tags": [],
        "entities": [],
        "revision": 1,
        "occurred_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return BlockBody.model_validate(empty | known)


def test_an_item_becomes_a_block_with_its_fields_apart() -> None:
    item = Item(
        id="D1:3",
        session="S1",
        speaker="Ilka",
        text="Look!",
        caption="a boat",
        time=datetime(2025, 3, 2, 18, 10),  # noqa: DTZ001 - as files write it
    )
    (made,) = item_blocks([item], user_id="u")
    assert made.item_id == "D1:3"
    assert made.body == {
        "user_id": "u",
        "content": "Look! [image: a boat]",
        "speaker": "Ilka",
        "session_id": "S1",
        "external_id": "D1:3",
        "occurred_at": "2025-03-02T18:10:00+00:00",
    }


def test_what_an_item_lacks_is_not_sent() -> None:
    (made,) = item_blocks([Item(id="1", session="", speaker=" ", text="x")], user_id="u")
    assert set(made.body) == {"user_id", "content", "external_id"}


def test_a_long_item_is_several_blocks_of_one_item() -> None:
    text = "word " * (CONTENT_CHARACTERS_MAX // 2)
    made = list(item_blocks([Item(id="7", session="S", speaker="a", text=text)], user_id="u"))
    assert {entry.item_id for entry in made} == {"7"}
    assert [entry.body["external_id"] for entry in made] == ["7", "7#2", "7#3"]
    assert " ".join(str(entry.body["content"]) for entry in made) == text.strip()


@pytest.mark.parametrize("length", [CONTENT_CHARACTERS_MAX, 250_001])
def test_no_part_is_longer_than_a_block_may_be(length: int) -> None:
    parts = split_content("x" * length)
    assert max(map(len, parts)) <= CONTENT_CHARACTERS_MAX
    assert "".join(parts) == "x" * length


def test_blank_text_is_no_block() -> None:
    assert split_content("") == []


def test_an_item_in_several_blocks_counts_once_at_its_best_place() -> None:
    a, b1, b2, foreign = (uuid4() for _ in range(4))
    stored = StoredConversation(
        Conversation(id="c", speakers=[], items=[], queries=[]), "u", {a: "A", b1: "B", b2: "B"}
    )
    assert stored.ranking(search_response(b2, foreign, b1, a)) == ["B", "A"]
    assert stored.limit(10) == 11


def test_sessions_keep_the_order_of_their_turns() -> None:
    items = [
        Item(id=str(number), session="S1" if number % 2 else "S2", speaker="a", text="x")
        for number in range(4)
    ]
    grouped = sessions(list(item_blocks(items, user_id="u")))
    assert [[entry.item_id for entry in turns] for turns in grouped] == [["0", "2"], ["1", "3"]]


def test_the_sample_conversation_is_a_whole_one() -> None:
    document = (files("luma_memory.cli") / "sample_conversation.json").read_bytes()
    dataset = read_dataset(document)
    (conversation,) = dataset.conversations
    assert dataset.license == "CC0-1.0"
    assert len(conversation.items) >= 60
    assert all(query.evidence and query.answer for query in conversation.queries)
