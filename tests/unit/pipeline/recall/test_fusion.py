"""Fusion ranks outliers of either retriever first, and explains the score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luma_memory.pipeline.recall.baselines import rank_dense, rank_lexical, rank_reciprocal
from luma_memory.pipeline.recall.fusion import (
    ADDITIONS,
    Fusion,
    FusionWeights,
    NeighborScores,
    Parts,
    ScopeScores,
    fuse,
    word_scores,
)
from luma_memory.pipeline.recall.groups import PassageGroups
from luma_memory.pipeline.recall.top import top

NAN = math.nan


def scope(dense: list[float], lexical: list[float], block: list[int] | None = None) -> ScopeScores:
    numbers = list(range(len(dense))) if block is None else block
    return ScopeScores(
        dense=np.array(dense, dtype=np.float32),
        lexical=np.array(lexical, dtype=np.float32),
        block=np.array(numbers, dtype=np.intp),
    )


def order(scores: ScopeScores, limit: int = 100) -> list[int]:
    return [ranked.block for ranked in fuse(scores, limit=limit)]


similarity = st.one_of(st.just(NAN), st.floats(-1, 1, width=32))
matches = st.one_of(st.just(0.0), st.floats(0.125, 50, width=32))


@st.composite
def scopes(draw: st.DrawFn) -> ScopeScores:
    sizes = draw(st.lists(st.integers(1, 4), max_size=20))
    block = draw(st.permutations([b for b, size in enumerate(sizes) for _ in range(size)]))
    count = len(block)
    dense = draw(st.lists(similarity, min_size=count, max_size=count))
    return scope(dense, draw(st.lists(matches, min_size=count, max_size=count)), block)


@given(scopes(), st.integers(1, 30))
def test_a_ranking_is_whole_ordered_bounded_and_explained(scores: ScopeScores, limit: int) -> None:
    ranking = fuse(scores, limit=limit)
    spoken_for = {
        int(b)
        for b, d, x in zip(scores.block, scores.dense, scores.lexical, strict=True)
        if not np.isnan(d) or x > 0
    }
    blocks = [ranked.block for ranked in ranking]
    assert len(blocks) == len(set(blocks)) == min(limit, len(spoken_for))
    assert set(blocks) <= spoken_for
    z_scores = [(-ranked.parts.z_score, ranked.block) for ranked in ranking]
    assert z_scores == sorted(z_scores)
    assert [r.score for r in ranking] == sorted((r.score for r in ranking), reverse=True)
    for ranked in ranking:
        parts = ranked.parts
        mine = scores.block == ranked.block
        assert 0 <= ranked.score <= 1
        assert parts.z_score == pytest.approx(_z_score(parts))
        assert scores.block[ranked.passage] == ranked.block
        assert parts.lexical_score == scores.lexical[mine].max()
        assert (parts.dense_similarity is None) == bool(np.isnan(scores.dense[mine]).all())


def _z_score(parts: Parts) -> float:
    """The z-score computed from the parts."""
    weights = parts.weights
    own = weights.dense * parts.dense_z_score
    own += weights.lexical * parts.lexical_z_score
    own += weights.context * parts.context_z_score
    own /= math.hypot(weights.dense, weights.lexical, weights.context)
    own += parts.speaker + parts.time
    return (own + ADDITIONS.session * parts.session) / (1 + ADDITIONS.session)


@given(scopes())
def test_the_order_of_the_passages_does_not_matter(scores: ScopeScores) -> None:
    shuffled = np.random.default_rng(7).permutation(len(scores.block))
    again = ScopeScores(scores.dense[shuffled], scores.lexical[shuffled], scores.block[shuffled])
    first, second = fuse(scores, limit=50), fuse(again, limit=50)
    assert [r.score for r in first] == pytest.approx([r.score for r in second])


@given(scopes(), st.integers(1, 5))
def test_a_limit_only_cuts(scores: ScopeScores, limit: int) -> None:
    for rank in (rank_dense, rank_lexical, rank_reciprocal):
        assert list(rank(scores, limit=limit)) == list(rank(scores, limit=100))[:limit]
    assert order(scores, limit) == order(scores)[:limit]


@given(st.lists(matches.filter(bool), min_size=1, max_size=30, unique=True))
def test_without_embeddings_words_rank_alone(lexical: list[float]) -> None:
    scores = scope([NAN] * len(lexical), lexical)
    assert order(scores) == list(rank_lexical(scores, limit=100))


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=30, unique=True))
def test_without_a_matching_word_similarity_ranks_alone(hundredths: list[int]) -> None:
    scores = scope([value / 100 for value in hundredths], [0.0] * len(hundredths))
    assert order(scores) == list(rank_dense(scores, limit=100))


def test_an_empty_scope_has_an_empty_ranking() -> None:
    empty = scope([], [])
    assert [*fuse(empty, limit=5), *rank_reciprocal(empty, limit=5)] == []
    assert order(scope([NAN, NAN], [0.0, 0.0])) == []


def test_what_stands_out_wins_and_the_other_retriever_breaks_the_tie() -> None:
    crowd = [0.1] * 50
    assert order(scope([*crowd, 0.8, 0.1], [0.0] * 52))[0] == 50
    assert order(scope([*crowd, 0.1, 0.1], [*[0.0] * 51, 9.0]))[0] == 51
    assert order(scope([*crowd, 0.8, 0.8], [*[0.0] * 51, 3.0]))[0] == 51


def test_a_block_not_yet_embedded_is_found_by_its_words() -> None:
    dense = [*np.linspace(0.0, 0.45, 40).tolist(), NAN]
    best = fuse(scope(dense, [*[0.0] * 40, 8.0]), limit=1)[0]
    assert best.block == 40
    assert best.parts.dense_similarity is None


def test_equals_come_in_the_order_of_their_numbers() -> None:
    scores = scope([0.2] * 30, [1.0] * 30)
    for ranking in (order(scores, 7), rank_dense(scores, limit=7), rank_lexical(scores, limit=7)):
        assert list(ranking) == [0, 1, 2, 3, 4, 5, 6]


def test_many_passages_are_no_advantage_by_themselves() -> None:
    # Nothing but chance: 300 blocks of one passage and 100 of nine.
    noise = np.random.default_rng(3).normal(0.1, 0.1, 1200).tolist()
    block = [*range(300), *(300 + i // 9 for i in range(900))]
    ranking = fuse(scope(noise, [0.0] * 1200, block), limit=400)
    short = np.mean([r.parts.dense_z_score for r in ranking if r.block < 300])
    long = np.mean([r.parts.dense_z_score for r in ranking if r.block >= 300])
    assert abs(short) < 0.15
    assert abs(long) < 0.15


def test_the_speaking_passage_is_the_best_of_its_block() -> None:
    best = fuse(scope([0.1, 0.1, 0.7, 0.2], [0.0] * 4, [0, 1, 1, 1]), limit=1)[0]
    assert (best.block, best.passage) == (1, 2)


def test_a_lone_block_is_scored_by_what_it_is() -> None:
    alike = fuse(scope([0.8], [4.0]), limit=1)[0]
    foreign = fuse(scope([0.1], [0.0]), limit=1)[0]
    assert foreign.score < 0.1 < 0.4 < alike.score


def test_reciprocal_ranks_by_hand() -> None:
    # dense ranks 0, 1, 2; words rank 2 first and match no other.
    assert list(rank_reciprocal(scope([0.9, 0.5, 0.1], [0.0, 0.0, 3.0]), limit=3)) == [2, 0, 1]


@pytest.mark.parametrize(
    ("scores", "limit", "message"),
    [
        (scope([0.1], [0.1], [1]), 1, "numbered"),
        (scope([0.1, 0.1], [0.1, 0.1], [0, 2]), 1, "numbered"),
        (scope([0.1, 0.1], [0.1], [0, 1]), 1, "one value"),
        (scope([0.1], [0.1]), 0, "limit"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(scores: ScopeScores, limit: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fuse(scores, limit=limit)


def test_weights_are_checked() -> None:
    with pytest.raises(ValueError, match="above 0"):
        FusionWeights(dense=0.0)


def surrounded(
    scores: ScopeScores,
    *,
    session: list[int] | None = None,
    windows: Mapping[tuple[int, ...], float] | None = None,
    meant: tuple[int, ...] = (),
    timely: tuple[int, ...] = (),
) -> ScopeScores:
    """windows: blocks of each, and its cosine."""
    count = int(scores.block.max()) + 1
    covered = [[*blocks, *[-1] * (3 - len(blocks))] for blocks in windows or {}]
    return replace(
        scores,
        neighbor_scores=NeighborScores(
            session=np.array(session or range(count), dtype=np.intp),
            windows=np.array(list((windows or {}).values()), dtype=np.float32),
            covered=np.array(covered, dtype=np.intp).reshape(-1, 3),
            meant=np.isin(np.arange(count), meant),
            timely=np.isin(np.arange(count), timely).astype(np.float64),
        ),
    )


def test_a_window_speaks_for_every_block_in_it() -> None:
    scores = scope([0.2] * 39, [0.0] * 39)
    windows: dict[tuple[int, ...], float] = {(n + 2, n + 1, n): 0.1 for n in range(3, 37, 3)}
    windows[2, 1, 0] = 0.7
    ranking = fuse(surrounded(scores, windows=windows), limit=4)
    assert [ranked.block for ranked in ranking] == [0, 1, 2, 3]
    z_scores = [ranked.parts.context_z_score for ranked in ranking]
    assert z_scores[0] == z_scores[1] == z_scores[2] > 2 > z_scores[3]


def test_a_block_in_two_windows_stands_between_them() -> None:
    scores = scope([0.2] * 5, [0.0] * 5)
    around = surrounded(scores, windows={(2, 1, 0): 0.6, (4, 3, 2): 0.2})
    by_block = {ranked.block: ranked.parts.context_z_score for ranked in fuse(around, limit=5)}
    assert by_block[2] == pytest.approx((by_block[0] + by_block[4]) / 2)
    assert by_block[0] > by_block[2] > by_block[3]


def test_without_a_window_the_context_is_guessed_from_the_block_itself() -> None:
    plain = scope([0.1, 0.3, 0.5], [0.0] * 3)
    first = fuse(surrounded(plain, windows={}), limit=1)[0].parts
    assert first.context_z_score == pytest.approx(0.8 * first.dense_z_score)
    assert [r.block for r in fuse(surrounded(plain), limit=3)] == order(plain)


def test_who_spoke_and_when_are_whole_deviations() -> None:
    scores = scope([0.2] * 30, [0.0] * 30)
    ranking = fuse(surrounded(scores, meant=(7, 9), timely=(9,)), limit=3)
    assert [ranked.block for ranked in ranking] == [9, 7, 0]
    assert [ranked.parts.speaker for ranked in ranking] == [ADDITIONS.speaker] * 2 + [0]
    assert [ranked.parts.time for ranked in ranking] == [ADDITIONS.time, 0, 0]


def test_a_session_shares_what_its_best_block_stands_at() -> None:
    dense = [0.8, 0.2, 0.2, 0.2] + [0.1] * 40
    session = [0, 0, 1, 2, *range(3, 43)]
    ranking = fuse(surrounded(scope(dense, [0.0] * 44), session=session), limit=4)
    assert [ranked.block for ranked in ranking] == [0, 1, 2, 3]
    best, beside, alone, _ = (ranked.parts for ranked in ranking)
    assert best.session == beside.session > alone.session


@given(scopes(), st.data())
def test_neighboring_turns_add_and_remove_no_block(
    scores: ScopeScores, data: st.DataObject
) -> None:
    count = len(set(scores.block.tolist()))
    if count == 0:
        return
    numbers = st.integers(0, count - 1)
    ends = data.draw(st.lists(st.tuples(numbers, numbers), max_size=6))
    around = surrounded(
        scores,
        session=data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)),
        windows={pair: 0.1 * n for n, pair in enumerate(ends)},
        meant=tuple(data.draw(st.sets(numbers))),
    )
    ranking = fuse(around, limit=100)
    assert {r.block for r in ranking} == set(order(scores))
    for ranked in ranking:
        assert ranked.parts.z_score == pytest.approx(_z_score(ranked.parts))


@given(
    st.integers(0, 3), st.integers(1, 60), st.integers(1, 40_000), st.randoms(use_true_random=False)
)
@settings(max_examples=30)
def test_the_best_of_many_values_are_those_of_a_full_sort(
    decimals: int, limit: int, count: int, random: Random
) -> None:
    """Many and few ties, above and below the size from which a sample is partitioned first."""
    values = np.round(np.random.default_rng(random.getrandbits(32)).normal(size=count), decimals)
    expected = np.argsort(-values, kind="stable")[:limit].tolist()
    assert top(values, limit) == expected
    eligible = values < 1.0
    if eligible.any():
        numbers = np.flatnonzero(eligible)
        best = numbers[np.argsort(-values[numbers], kind="stable")[:limit]]
        assert top(values[numbers], limit, numbers) == best.tolist()


@given(st.integers(1, 80), st.integers(0, 3), st.integers(1, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_the_best_blocks_of_many_sessions_are_those_of_all_z_scores(
    sessions: int, decimals: int, limit: int, seed: int
) -> None:
    """Few and many ties, with and without gains: no block outside the best sessions is missing."""
    dice = np.random.default_rng(seed)
    count = 3 * sessions
    scores = scope(np.round(dice.normal(size=count) / 4, decimals).tolist(), [0.0] * count)
    session = dice.integers(0, sessions, count).tolist()
    fusion = Fusion(surrounded(scores, session=session))
    gains = {int(block): float(dice.normal()) for block in dice.integers(0, count, 5)}
    for added in ({}, gains):
        z_scores = [fusion.z_score(block) + added.get(block, 0.0) for block in range(count)]
        expected = sorted(range(count), key=lambda block: (-z_scores[block], block))[:limit]
        found = fusion.best(limit, gains=added)
        assert [ranked.block for ranked in found] == expected
        assert [ranked.parts.z_score for ranked in found] == [z_scores[b] for b in expected]
        assert [ranked.parts.relation for ranked in found] == [added.get(b, 0.0) for b in expected]


@given(scopes(), st.integers(1, 30), st.data())
def test_words_scored_before_the_vector_lead_to_the_same_ranking(
    scores: ScopeScores, limit: int, data: st.DataObject
) -> None:
    if not len(scores.block):
        return
    blocks = st.sets(st.integers(0, int(scores.block.max())))
    meant, timely = tuple(data.draw(blocks)), tuple(data.draw(blocks))
    scores = surrounded(scores, meant=meant, timely=timely)
    around = scores.neighbor_scores
    assert around is not None
    groups = PassageGroups(scores.block)
    words = word_scores(scores.lexical, groups, meant=around.meant, timely=around.timely)
    assert Fusion(scores, words=words).best(limit) == Fusion(scores).best(limit)
