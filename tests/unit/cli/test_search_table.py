"""`search --explain`: what each part of a place adds, so that a person can check the sum."""

from __future__ import annotations

import math

import pytest

from luma_memory.cli.search import _PARTS, _parts

EXPLANATION: dict[str, float | int | str | None] = {
    "dense_similarity": 0.61,
    "dense_standing": 4.0,
    "dense_weight": 1.0,
    "lexical_score": 7.5,
    "lexical_standing": 6.0,
    "lexical_weight": 0.7,
    "context_standing": 3.0,
    "context_weight": 0.6,
    "speaker": 1.0,
    "time": 0.5,
    "session_standing": 9.0,
    "session_share": 0.5,
    "standing": 0.0,
    "passage": 0,
}


def test_the_parts_sum_up_to_the_z_score() -> None:
    own = (1.0 * 4.0 + 0.7 * 6.0 + 0.6 * 3.0) / math.hypot(1.0, 0.7, 0.6) + 1.5
    z_score = (own + 0.5 * 9.0) / 1.5
    shown = _parts(EXPLANATION | {"standing": z_score})
    assert len(shown) == len(_PARTS)
    first, *others = map(float, shown)
    assert first == pytest.approx(z_score, abs=0.01)
    assert sum(others) / 1.5 == pytest.approx(z_score, abs=0.05)


def test_a_guess_is_marked_and_nothing_is_shown_where_nothing_is_known() -> None:
    assert _parts(EXPLANATION | {"dense_similarity": None})[1].startswith("~")
    assert _parts({"rank": 3}) == [""] * len(_PARTS)
    assert _parts({}) == [""] * len(_PARTS)
