"""Turns find each other in their session, and lend each other words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.pipeline.recall.groups import PassageGroups
from luma_memory.pipeline.recall.neighbors import (
    NEIGHBOR_SHARE,
    Neighbors,
    in_sessions,
    with_neighbors,
)
from luma_memory.pipeline.recall.postings import posting_of


def int64(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def float32(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def shared(
    weights: npt.NDArray[np.float32], block: npt.NDArray[np.intp], neighbors: Neighbors
) -> npt.NDArray[np.float32]:
    """[n] by passage; where one comes twice, its values are equal."""
    found = np.zeros(len(weights), dtype=np.float32)
    at, values = with_neighbors(posting_of(weights), PassageGroups(block), neighbors)
    for place, value in zip(at.tolist(), values, strict=True):
        assert found[place] in (0.0, value)
        found[place] = value
    return found


def test_turns_of_one_instant_follow_in_the_order_they_came() -> None:
    # Numbered newest first: 3 came first. The times say nothing.
    found = in_sessions(int64(5, 5, 5, 5), int64(9, 9, 9, 9))
    assert found.previous.tolist() == [1, 2, 3, -1]
    assert found.following.tolist() == [-1, 0, 1, 2]
    assert len(set(found.session.tolist())) == 1


def test_a_late_turn_goes_where_its_time_is() -> None:
    found = in_sessions(int64(5, 5, 5), int64(15, 20, 10))
    assert found.previous.tolist() == [2, 0, -1]
    assert found.following.tolist() == [1, -1, 0]


def test_sessions_are_apart_and_no_session_is_one_of_its_own() -> None:
    found = in_sessions(int64(7, 0, 5, 0, 7), int64(5, 4, 3, 2, 1))
    assert found.previous.tolist() == [4, -1, -1, -1, -1]
    assert len(set(found.session.tolist())) == 4
    assert found.session[0] == found.session[4]
    assert in_sessions(int64(), int64()).session.tolist() == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), max_size=30))
def test_each_session_is_one_chain_through_all_its_turns(turns: list[tuple[int, int]]) -> None:
    sessions, instants = int64(*(s for s, _ in turns)), int64(*(t for _, t in turns))
    found = in_sessions(sessions, instants)
    sorted_anew = in_sessions(sessions, instants, near=np.arange(len(turns))[::-1])
    assert sorted_anew.order.tolist() == found.order.tolist()
    for number, (session, instant) in enumerate(turns):
        after = int(found.following[number])
        if after >= 0:
            assert found.previous[after] == number
            assert (turns[after][0], found.session[after]) == (session, found.session[number])
            assert (turns[after][1], -after) > (instant, -number)
    for session in {s for s, _ in turns if s}:
        members = np.flatnonzero(sessions == session)
        assert sum(found.previous[members] < 0) == 1
        assert sum(found.following[members] < 0) == 1


def test_a_missing_word_is_lent_and_a_present_one_counts_once() -> None:
    found = in_sessions(int64(5, 5, 5, 5), int64(4, 3, 2, 1))
    lent = shared(float32(0, 1.0, 0, 0), np.arange(4), found)
    assert lent.tolist() == [NEIGHBOR_SHARE, 1.0, NEIGHBOR_SHARE, 0.0]
    twice = shared(float32(1.0, 1.0, 0, 0), np.arange(4), found)
    assert twice.tolist() == [1.0, 1.0, NEIGHBOR_SHARE, 0.0]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 2, width=32)), min_size=1, max_size=30),
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_lending_takes_nothing_and_gives_at_most_the_share(
    passages: list[tuple[int, float]], sessions: list[int]
) -> None:
    passages = [*passages, *((n, 0.0) for n in range(6))]  # every block has one
    block = np.array([b for b, _ in passages], dtype=np.intp)
    weights = float32(*(w for _, w in passages))
    found = in_sessions(int64(*sessions), int64(*range(6)))
    given = shared(weights, block, found)
    best = [max((w for b, w in passages if b == n), default=0.0) for n in range(6)]
    for at, (number, weight) in enumerate(passages):
        beside = [int(found.previous[number]), int(found.following[number])]
        lent = max((best[n] for n in beside if n >= 0), default=0.0) * NEIGHBOR_SHARE
        assert abs(given[at] - max(weight, lent)) < 1e-6
