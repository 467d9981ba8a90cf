"""What the rules without a model call an update or a repetition, over a corpus of pairs.

What they call so leaves recall, so precision is held at 1.00; recall is published in
docs/relations.md, and the corpus says what each pair should be.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.relation import Candidate, RelationBlock, RelationRequest
from luma_memory.pipeline.knowledge.relate import checked
from luma_memory.providers.completion.local_relations import find

THEN = datetime(2026, 3, 5, 10, tzinfo=UTC)
DOCUMENTED = Path(__file__).parents[3] / "docs" / "relations.md"
PAIRS = Path(__file__).parent / "relation_pairs.tsv"


@dataclass(frozen=True)
class Pair:
    language: str
    kind: str
    earlier: str
    later: str
    wanted: str


def _pairs() -> list[Pair]:
    with PAIRS.open(encoding="utf-8", newline="") as file:
        return [Pair(*row) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def _request(
    newer: str,
    older: str,
    *,
    speakers: tuple[str, str] = ("Ana", "Ana"),
    previous: bool = False,
    days: int = 4,
) -> RelationRequest:
    later = THEN + timedelta(days=days)
    block = RelationBlock(UUID(int=2), 1, newer, later, later, "two", speakers[0])
    other = RelationBlock(UUID(int=1), 1, older, THEN, THEN, "one", speakers[1])
    return RelationRequest(block, [Candidate(other, 0.99, 1.0, previous)])


def _types(request: RelationRequest) -> list[str]:
    relations, refused = checked(list(find(request)), request)
    assert refused == 0
    return [relation.type for relation in relations]


def _found(pair: Pair) -> str:
    return next(iter(_types(_request(pair.later, pair.earlier))), "none")


def test_the_corpus_is_wide() -> None:
    pairs = _pairs()
    assert len(pairs) >= 200
    assert len({pair.language for pair in pairs}) == 5
    assert min(Counter(pair.language for pair in pairs).values()) >= 20
    assert len({(pair.earlier, pair.later) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("pair", _pairs(), ids=lambda pair: f"{pair.earlier} {pair.later}")
def test_nothing_leaves_recall_that_the_corpus_keeps(pair: Pair) -> None:
    found = _found(pair)
    if found in ("supersedes", "duplicates"):
        assert found == pair.wanted
    if pair.wanted == "none":
        assert found == "none"


@pytest.mark.parametrize("relation", ["supersedes", "duplicates", "contradicts"])
def test_precision_and_recall_are_as_published(relation: str) -> None:
    found = [(pair.wanted, _found(pair)) for pair in _pairs()]
    right = found.count((relation, relation))
    precision = right / sum(said == relation for _, said in found)
    recall = right / sum(wanted == relation for wanted, _ in found)
    assert f"| `{relation}` | {precision:.2f} | {recall:.2f} |" in DOCUMENTED.read_text("utf-8")


@pytest.mark.parametrize("pair", _pairs(), ids=lambda pair: f"{pair.earlier} {pair.later}")
def test_another_speaker_changes_nothing(pair: Pair) -> None:
    assert _types(_request(pair.later, pair.earlier, speakers=("Ana", "Bob"))) == []


def test_a_contradiction_leaves_both_blocks_in_recall() -> None:
    """The store takes an earlier block out from a confidence of 0.7 on."""
    request = _request("Port 8080 is not open.", "Port 8080 is open.")
    (relation,) = checked(list(find(request)), request)[0]
    assert relation.type == "contradicts"
    assert relation.confidence < 0.7


def test_a_text_that_names_its_day_by_today_is_repeated_on_that_day_only() -> None:
    for text in ("Lunch with Sam today.", "I talked to Sam a few days ago."):
        assert _types(_request(text, text, days=0)) == ["duplicates"]
        assert _types(_request(text, text, days=1)) == []


def test_a_move_within_one_week_names_the_same_monday() -> None:
    moved = "The meeting moved from Monday to Tuesday."
    assert _types(_request(moved, "The meeting is on Monday.", days=2)) == ["supersedes"]
    assert _types(_request(moved, "The meeting is on Monday.", days=9)) == []


def test_next_turns() -> None:
    assert _types(_request("Why?", "It rains.", previous=True)) == ["follows"]


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_fails(newer: str, older: str) -> None:
    request = _request(newer, older)
    checked(list(find(request)), request)
