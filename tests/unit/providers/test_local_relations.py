"""Plain updates in English, and what only looks like one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.relation import Candidate, RelationBlock, RelationRequest
from luma_memory.pipeline.knowledge.relate import checked
from luma_memory.providers.completion.local_relations import find

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def _request(
    newer: str, older: str, *, speakers: tuple[str, str] = ("Ana", "Ana"), previous: bool = False
) -> RelationRequest:
    later = THEN + timedelta(days=30)
    block = RelationBlock(UUID(int=2), 1, newer, later, later, None, speakers[0])
    other = RelationBlock(UUID(int=1), 1, older, THEN, THEN, None, speakers[1])
    return RelationRequest(block, [Candidate(other, 0.5, 1.0, previous)])


def _types(request: RelationRequest) -> list[str]:
    relations, refused = checked(list(find(request)), request)
    assert refused == 0
    return [relation.type for relation in relations]


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("I moved to Lisbon last week.", "I live in Berlin."),
        ("Last month I moved from Berlin to Lisbon!", "I'm living in Berlin with Tom"),
        ("I no longer live in Berlin.", "I live in Berlin, near the river."),
        ("I now live in Lisbon", "We live in Berlin"),
        ("I’m based in Lisbon", "I’m based in Berlin"),
        ("I work at Acme", "I joined Initech in May"),
        ("My favorite color is green now", "My favourite color is blue"),
        ("My phone number is 555123", "My phone number is 444123"),
        ("My sister is now a doctor", "My sister is a nurse"),
        ("I don't like sushi anymore", "I like sushi"),
        ("I stopped playing the violin", "I play the violin every day"),
    ],
)
def test_an_update_supersedes(newer: str, older: str) -> None:
    assert _types(_request(newer, older)) == ["supersedes"]
    assert _types(_request(newer, older, speakers=("Ana", "Bob"))) == []


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("Do you live in Lisbon? I might move.", "I live in Berlin"),
        ("If I moved to Lisbon I'd be happy", "I live in Berlin"),
        ("We moved on to the next topic", "I live in Berlin"),
        ("I moved to the second question", "I live in Berlin"),
        ("I work at night", "I work at Acme"),
        ("I've moved in with Tom", "I live in Berlin"),
        ("I started working on a painting", "I work at Acme"),
        ("My sister is tall", "My sister is a nurse"),
        ("I live in Berlin, by the park", "I live in Berlin"),
        ("The rain stopped", "I like sushi"),
        ("", "I live in Berlin"),
    ],
)
def test_what_only_looks_like_one_does_not(newer: str, older: str) -> None:
    assert _types(_request(newer, older)) == []


def test_repetitions_and_next_turns() -> None:
    assert _types(_request("I live in Berlin", "I live in Berlin!")) == ["duplicates"]
    assert _types(_request("Why?", "It rains.", previous=True)) == ["follows"]


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_fails(newer: str, older: str) -> None:
    request = _request(newer, older)
    checked(list(find(request)), request)
