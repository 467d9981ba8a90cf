"""Every turn but a last one is in a window that holds what the session says now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.windows import Place, Turn, WindowMark
from luma_memory.pipeline.enrichment.windows import TURNS_BEFORE, WINDOW_TURNS, Plan, plan_windows

MODEL = "words-64"
START = datetime(2024, 3, 1, 9, 0, tzinfo=UTC)


def turn(number: int, *, revision: int = 1) -> Turn:
    place = Place(START + timedelta(minutes=number), UUID(int=number + 1))
    return Turn(place, revision, "Ada", f"turn {number}", is_before=False, window=None)


def session(count: int) -> list[Turn]:
    return [turn(number) for number in range(count)]


def after(turns: list[Turn], plan: Plan, model: str = MODEL) -> list[Turn]:
    """The turns as they are read once the plan has been carried out."""
    made = {window.block_id: WindowMark(window.fingerprint, model) for window in plan.windows}
    dropped = set(plan.dropped)
    return [
        replace(
            t, window=made.get(t.place.block_id, None if t.place.block_id in dropped else t.window)
        )
        for t in turns
    ]


def ends(plan: Plan, turns: list[Turn]) -> list[int]:
    places = {t.place.block_id: number for number, t in enumerate(turns)}
    return [places[window.block_id] for window in plan.windows]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, []), (2, [1]), (3, [1]), (4, [1, 3]), (7, [1, 3, 5])],
)
def test_every_second_turn_ends_a_window(count: int, expected: list[int]) -> None:
    turns = session(count)
    assert ends(plan_windows(turns, embedding_model=MODEL), turns) == expected


def test_a_window_lists_its_turns_in_order_with_speakers() -> None:
    turns = [turn(0), replace(turn(1), speaker=None), turn(2), turn(3)]
    texts = [window.text for window in plan_windows(turns, embedding_model=MODEL).windows]
    assert texts == ["Ada: turn 0\nturn 1", "turn 1\nAda: turn 2\nAda: turn 3"]


@given(st.integers(0, 12), st.integers(0, 12))
def test_turn_by_turn_or_at_once_comes_to_the_same(first: int, second: int) -> None:
    turns = session(first + second)
    some = turns[:first]
    some = after(some, plan_windows(some, embedding_model=MODEL))
    rest = plan_windows([*some, *turns[first:]], embedding_model=MODEL)
    whole = plan_windows(turns, embedding_model=MODEL)
    made = {t.place.block_id for t in some if t.window} | {w.block_id for w in rest.windows}
    assert made == {window.block_id for window in whole.windows}
    assert not rest.dropped


def _is_covered(turns: list[Turn]) -> bool:
    marked = [number for number, t in enumerate(turns) if t.window is not None]
    covered = {n for end in marked for n in range(end - WINDOW_TURNS + 1, end + 1)}
    return all(number in covered for number in range(len(turns) - 1))


changes = st.lists(
    st.tuples(st.sampled_from(["insert", "edit", "delete"]), st.floats(0, 1)), max_size=5
)


@given(st.integers(1, 15), changes)
def test_windows_converge_after_any_change(count: int, happened: list[tuple[str, float]]) -> None:
    turns = after(session(count), plan_windows(session(count), embedding_model=MODEL))
    for number, (kind, where) in enumerate(happened):
        at = min(int(where * len(turns)), len(turns) - 1)
        match kind:
            case "insert":
                turns.insert(at, replace(turn(at), place=Place(START, UUID(int=1000 + number))))
            case "edit":
                turns[at] = replace(turns[at], revision=turns[at].revision + 1)
            case _:
                turns.pop(at)
        if not turns:
            return
        plan = plan_windows(turns, embedding_model=MODEL)
        # At most the windows around the change, and one that fills the gap.
        assert len(plan.windows) + len(plan.dropped) <= WINDOW_TURNS + 2
        turns = after(turns, plan)
        assert _is_covered(turns)
        again = plan_windows(turns, embedding_model=MODEL)
        assert (again.windows, again.dropped) == ([], [])


def test_another_model_makes_them_all_again() -> None:
    turns = session(6)
    old = after(turns, plan_windows(turns, embedding_model="old"), "old")
    plan = plan_windows(old, embedding_model=MODEL)
    assert len(plan.windows) == 3
    assert plan_windows(after(old, plan), embedding_model=MODEL).windows == []


@given(st.integers(TURNS_BEFORE + 1, 20), st.data())
def test_a_stretch_is_planned_as_in_the_whole(count: int, data: st.DataObject) -> None:
    """From any place on, with TURNS_BEFORE turns before it: what fits there is left alone."""
    turns = after(session(count), plan_windows(session(count), embedding_model=MODEL))
    start = data.draw(st.integers(TURNS_BEFORE, count - 1))
    edited = data.draw(st.integers(start, count - 1))
    turns[edited] = replace(turns[edited], revision=2)
    stretch = [
        replace(t, is_before=number < start)
        for number, t in enumerate(turns)
        if number >= start - TURNS_BEFORE
    ]
    assert plan_windows(stretch, embedding_model=MODEL) == plan_windows(
        turns, embedding_model=MODEL
    )
