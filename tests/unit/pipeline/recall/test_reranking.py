"""The ranking that a reranker's scores make."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.search import SearchHit
from luma_memory.pipeline.recall.reranking import candidate_text, reordered


def _hit(number: int, score: float, content: str = "text", **fields: Any) -> SearchHit:
    # Only these fields of a block are read here.
    block: Any = type("Block", (), {"id": UUID(int=number), "content": content, **fields})()
    return SearchHit(block, score, 0.5, {"standing": 1.0})


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8),
    st.integers(0, 5),
)
def test_no_block_comes_or_goes_and_scores_never_rise(scores: list[float], more: int) -> None:
    count = len(scores) + more
    hits = [_hit(number, 1 - number / 20) for number in range(count)]
    found = reordered(hits, scores)
    assert sorted(hit.block.id for hit in found) == sorted(hit.block.id for hit in hits)
    assert [hit.score for hit in found] == [hit.score for hit in hits]
    scores_found = [hit.explanation.get("rerank_score") for hit in found]
    assert scores_found[: len(scores)] == sorted(scores, reverse=True)
    assert [hit.block.id for hit in found[len(scores) :]] == [
        hit.block.id for hit in hits[len(scores) :]
    ]


def test_equals_stay_in_their_order() -> None:
    hits = [_hit(number, 0.5) for number in range(3)]
    assert reordered(hits, [1.0, 2.0, 1.0])[0].block.id == UUID(int=1)
    assert [hit.block.id.int for hit in reordered(hits, [1.0, 1.0, 1.0])] == [0, 1, 2]


def test_a_long_block_is_read_by_the_passage_that_speaks_for_it() -> None:
    content = " ".join(f"Sentence {number} says a thing." for number in range(400))
    first = candidate_text(_hit(1, 0.5, content, speaker="Ada"), 0)
    second = candidate_text(_hit(1, 0.5, content, speaker=None), 1)
    assert first.startswith("Ada: Sentence 0 ")
    assert len(first) < len(content) / 4
    assert second in content
    assert candidate_text(_hit(1, 0.5, "short", speaker=None), 7) == "short"
