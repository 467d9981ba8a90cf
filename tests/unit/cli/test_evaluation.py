"""The evaluation format is read strictly, and the measures are the textbook's."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.cli.evaluation.dataset import Query, read_dataset
from luma_memory.cli.evaluation.measures import (
    QueryScore,
    ndcg_at,
    recall_at,
    reciprocal_rank,
    score_query,
    summarize,
)
from luma_memory.domain.errors import Invalid


def document() -> dict[str, Any]:
    items = [
        {"id": "a", "session": "S1", "speaker": "Ada", "text": "Hello", "caption": "an otter"},
        {"id": "b", "session": "S1", "speaker": "Ben", "text": "Hi", "time": "2024-02-03T10:00:00"},
    ]
    query = {"id": "q", "text": "Who?", "category": "single-hop", "group": "main"}
    return {
        "format": "memory-retrieval/1",
        "name": "sample",
        "later": "unknown fields are left alone",
        "conversations": [
            {
                "id": "c",
                "speakers": ["Ada", "Ben"],
                "items": items,
                "queries": [{**query, "evidence": ["b"]}],
            }
        ],
    }


SESSIONS = {"a": "one", "b": "one", "c": "two"}


def query(*evidence: str, group: str = "main", category: str = "x") -> Query:
    return Query(id="q", text="?", category=category, group=group, evidence=evidence)


def scored(ranking: list[str], evidence: list[str], **kinds: str) -> QueryScore:
    score = score_query(query(*evidence, **kinds), ranking, SESSIONS)
    assert score is not None
    return score


def test_a_document_is_read() -> None:
    conversation = read_dataset(json.dumps(document()).encode()).conversations[0]
    first, second = conversation.items
    assert first.content == "Ada: Hello [image: an otter]"
    assert first.occurred_at is None
    assert second.content == "Ben: Hi"
    assert second.occurred_at == datetime(2024, 2, 3, 10, tzinfo=UTC)
    assert list(conversation.queries[0].evidence) == ["b"]


def test_a_zone_in_the_time_is_kept() -> None:
    changed = document()
    changed["conversations"][0]["items"][1]["time"] = "2024-02-03T10:00:00+02:00"
    moment = read_dataset(json.dumps(changed)).conversations[0].items[1].occurred_at
    assert moment == datetime(2024, 2, 3, 8, tzinfo=UTC)


def without_text(d: dict[str, Any]) -> None:
    del d["conversations"][0]["items"][1]["text"]


def other_format(d: dict[str, Any]) -> None:
    d["format"] = "memory-retrieval/2"


def twice(d: dict[str, Any]) -> None:
    d["conversations"][0]["items"][1]["id"] = "a"


def unknown_evidence(d: dict[str, Any]) -> None:
    d["conversations"][0]["queries"][0]["evidence"] = ["zz"]


def number_as_id(d: dict[str, Any]) -> None:
    d["conversations"][0]["items"][0]["id"] = 3


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        (without_text, "conversations.0.items.1.text", "required"),
        (other_format, "format", "memory-retrieval/1"),
        (twice, "conversations.0", "same id"),
        (unknown_evidence, "conversations.0", "zz"),
        (number_as_id, "conversations.0.items.0.id", "string"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, place: str, message: str) -> None:
    changed = document()
    change(changed)
    with pytest.raises(Invalid, match=message) as caught:
        read_dataset(json.dumps(changed))
    assert (caught.value.field, caught.value.code) == (place, "invalid_dataset")


@pytest.mark.parametrize("broken", ["", "{", "[]", "\ud800"])
def test_what_is_no_document_is_refused(broken: str) -> None:
    with pytest.raises(Invalid):
        read_dataset(broken)


def test_measures_by_hand() -> None:
    ranking = ["x", "a", "y", "b", "z", *"mnopqr", "c"]
    measures = scored(ranking, ["a", "b", "c", "d"]).measures
    assert dict(measures.recall) == {5: 0.5, 10: 0.5, 20: 0.75}
    assert dict(measures.hit) == {5: 1.0, 10: 1.0, 20: 1.0}
    assert measures.reciprocal_rank == 0.5
    gained = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    assert measures.ndcg == pytest.approx(gained / ideal)


def test_nothing_found_is_zero_and_nothing_to_find_is_not_scored() -> None:
    measures = scored([], ["a"]).measures
    assert (measures.recall[20], measures.hit[20]) == (0, 0)
    assert (measures.reciprocal_rank, measures.ndcg) == (0, 0)
    assert score_query(query(), ["a"], {}) is None


def test_sessions_rank_by_their_best_item() -> None:
    measures = scored(["x", "a", "y", "b", "z", *"mnop", "c"], ["a", "b", "c"]).measures
    # Sessions: x, one, y, z, m, n, o, p, two.
    assert dict(measures.session_any) == {5: 1.0, 10: 1.0, 20: 1.0}
    assert dict(measures.session_all) == {5: 0.0, 10: 1.0, 20: 1.0}
    # An item without a session is one of its own.
    assert dict(scored(["a", "b"], ["q"]).measures.session_any) == {5: 0.0, 10: 0.0, 20: 0.0}


def test_an_item_counts_once() -> None:
    assert scored(["a", "a", "a", "a", "a", "b"], ["a", "b"]).measures.recall[5] == 1.0
    assert scored(["a"], ["a", "a"]).measures.recall[5] == 1.0


rankings = st.lists(st.sampled_from("abcdefgh"), unique=True)
relevants = st.sets(st.sampled_from("abcdefgh"), min_size=1)


@given(rankings, relevants, st.integers(1, 10))
def test_measures_stay_in_range_and_grow_with_k(
    ranking: list[str], relevant: set[str], k: int
) -> None:
    assert 0 <= recall_at(k, ranking, relevant) <= recall_at(k + 1, ranking, relevant) <= 1
    assert 0 <= ndcg_at(k, ranking, relevant) <= 1 + 1e-12
    assert 0 <= reciprocal_rank(ranking, relevant) <= 1


@given(relevants, rankings)
def test_the_ideal_ranking_is_perfect(relevant: set[str], others: list[str]) -> None:
    ranking = [*sorted(relevant), *(item for item in others if item not in relevant)]
    assert ndcg_at(10, ranking, relevant) == pytest.approx(1.0)
    assert reciprocal_rank(ranking, relevant) == 1.0


def test_a_summary_has_main_first_and_every_question_weighs_the_same() -> None:
    rows = summarize(
        [
            scored(["a"], ["a"], group="adversarial", category="other"),
            scored(["a"], ["a"], group="main", category="temporal"),
            scored(["b"], ["a"], group="main", category="multi-hop"),
            scored(["b"], ["a"], group="main", category="multi-hop"),
        ]
    )
    assert [(row.group, row.category, row.query_count) for row in rows] == [
        ("main", None, 3),
        ("main", "multi-hop", 2),
        ("main", "temporal", 1),
        ("adversarial", None, 1),
        ("adversarial", "other", 1),
    ]
    assert rows[0].measures.recall[5] == pytest.approx(1 / 3)
    assert rows[2].measures.ndcg == 1.0
    assert summarize([]) == []
