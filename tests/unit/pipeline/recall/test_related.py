"""What relations do to a ranking: lifts towards a better neighbor, repetitions folded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.relation import RelationType
from luma_memory.pipeline.recall.fusion import Fusion, ScopeScores
from luma_memory.pipeline.recall.related import LIFTING, SHARE, NumberedLink, with_relations

COSINES = [0.9, 0.1, 0.5, 0.47, 0.2]


def scope(cosines: list[float]) -> Fusion:
    """One passage a block."""
    count = len(cosines)
    return Fusion(
        ScopeScores(
            dense=np.array(cosines, dtype=np.float32),
            lexical=np.zeros(count, dtype=np.float32),
            block=np.arange(count),
        )
    )


def link(
    source: int, target: int, kind: RelationType = "follows", confidence: float = 0.6
) -> NumberedLink:
    return NumberedLink(source, target, kind, confidence)


def test_a_block_is_lifted_by_a_share_of_what_it_stands_below_its_neighbor() -> None:
    fusion = scope(COSINES)
    plain = {entry.block: entry for entry in fusion.best(9)}
    for way in (link(3, 0, confidence=1.0), link(0, 3, confidence=1.0)):
        related = with_relations(fusion, [way, link(3, 2)], limit=9)
        # Past the one that stood a little higher, and not past its neighbor.
        assert [entry.block for entry in related.ranked] == [0, 3, 2, 4, 1]
        lift = related.lifts[3]
        assert (lift.by, lift.type) == (0, "follows")
        assert lift.gain == pytest.approx(SHARE * (fusion.z_score(0) - fusion.z_score(3)))
        lifted = next(entry for entry in related.ranked if entry.block == 3)
        assert lifted.parts.relation == lift.gain
        assert lifted.parts.z_score == pytest.approx(plain[3].parts.z_score + lift.gain)
        assert set(related.lifts) == {3}


def test_of_two_that_contradict_each_other_the_later_comes_first_and_both_are_shown() -> None:
    fusion = scope(COSINES)
    assert [entry.block for entry in fusion.best(9)] == [0, 2, 3, 4, 1]
    # The source is the later one. A chain: 1 contradicts 4, which contradicts 2.
    links = [link(1, 4, "contradicts"), link(4, 2, "contradicts")]
    ranked = with_relations(fusion, links, limit=9).ranked
    assert {entry.block for entry in ranked} == set(range(5))
    places = {entry.block: place for place, entry in enumerate(ranked)}
    assert places[4] < places[2]
    scores = [entry.score for entry in ranked]
    assert scores == sorted(scores, reverse=True)
    # What already ranks first stays where it is.
    first = with_relations(fusion, [link(0, 1, "contradicts", 0.65)], limit=9).ranked
    assert next(iter(first)).block == 0


def test_only_the_best_lift_and_only_relations_that_say_how() -> None:
    many = scope([0.9 - 0.01 * n for n in range(30)])
    assert with_relations(many, [link(20, 29)], limit=9).lifts == {}
    assert set(with_relations(many, [link(4, 29)], limit=9).lifts) == {29}
    others: list[RelationType] = ["related", "duplicates"]
    for kind in others:
        assert kind not in LIFTING
        assert with_relations(many, [link(0, 29, kind)], limit=9).lifts == {}


def test_duplicates_are_folded_into_the_best_and_the_next_block_moves_up() -> None:
    fusion = scope(COSINES)
    # Two duplicates four, and four duplicates three.
    same = [link(2, 4, "duplicates"), link(3, 4, "duplicates"), link(3, 2, "duplicates")]
    related = with_relations(fusion, same, limit=3)
    assert [entry.block for entry in related.ranked] == [0, 2, 1]
    assert related.folded == {2: [3, 4]}


KINDS: list[RelationType] = ["follows", "supersedes", "duplicates", "related"]


@given(
    cosines=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30),
    links=st.lists(
        st.tuples(
            st.integers(0, 29),
            st.integers(0, 29),
            st.sampled_from(KINDS),
            st.floats(0, 1, width=32),
        ),
        max_size=40,
    ),
    limit=st.integers(1, 40),
)
def test_no_block_is_lost_or_shown_twice_and_scores_never_rise(
    cosines: list[float], links: list[tuple[int, int, RelationType, float]], limit: int
) -> None:
    fusion, count = scope(cosines), len(cosines)
    some = [NumberedLink(a % count, b % count, kind, c) for a, b, kind, c in links]
    related = with_relations(fusion, some, limit=limit)
    scores = [entry.score for entry in related.ranked]
    assert scores == sorted(scores, reverse=True)
    shown = [entry.block for entry in related.ranked]
    folded = [one for ones in related.folded.values() for one in ones]
    assert len({*shown, *folded}) == len(shown) + len(folded)
    assert len(shown) == min(limit, count - len(folded)) or len(shown) == limit
    # No block is lifted past the best one.
    assert shown[0] == fusion.best(1)[0].block
