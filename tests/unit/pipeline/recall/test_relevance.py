"""Relevance: in 0..1, rising with nearness and with words, the same for every model."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.relevance import relevance

MINILM = Calibration(mean=0.0724, deviation=0.0891)

cosines = st.floats(-1, 1, width=32)
coverages = st.floats(0, 1, width=32)
backgrounds = st.builds(Calibration, mean=st.floats(-0.2, 0.9), deviation=st.floats(0.005, 0.3))


def _column(value: float) -> npt.NDArray[np.float32]:
    return np.array([value], dtype=np.float32)


def _of(cosine: float, coverage: float, calibration: Calibration = MINILM) -> float:
    found = relevance(_column(cosine), _column(coverage), calibration)
    return float(found[0])


@given(cosines | st.just(math.nan), coverages, backgrounds)
def test_it_lies_between_0_and_1(cosine: float, coverage: float, calibration: Calibration) -> None:
    assert 0 <= _of(cosine, coverage, calibration) <= 1


@given(cosines, cosines, coverages, coverages, backgrounds)
def test_nearer_or_with_more_of_the_words_is_never_less_relevant(
    one: float, other: float, some: float, more: float, calibration: Calibration
) -> None:
    low = _of(min(one, other), min(some, more), calibration)
    assert low <= _of(max(one, other), max(some, more), calibration) + 1e-12


@given(cosines, coverages, st.floats(0.05, 1), st.floats(-0.5, 0.9))
def test_relevance_is_independent_of_the_models_cosine_range(
    cosine: float, coverage: float, scale: float, shift: float
) -> None:
    other = Calibration(shift + scale * MINILM.mean, scale * MINILM.deviation)
    there = _of(shift + scale * cosine, coverage, other)
    # What single precision leaves of a narrow model's cosine, in deviations.
    exact = 4e-7 / other.deviation
    assert there == pytest.approx(_of(cosine, coverage), abs=exact)


@pytest.mark.parametrize(
    ("cosine", "coverage", "low", "high"),
    [
        (0.07, 0.0, 0.0, 0.05),  # an average unrelated block
        (0.35, 0.2, 0.1, 0.6),  # the best of hundreds of unrelated ones
        (0.55, 0.4, 0.75, 1.0),
        (0.45, 0.55, 0.75, 1.0),
        (0.1, 1.0, 0.9, 1.0),  # a code, found as it was written
        (math.nan, 0.2, 0.0, 0.1),  # words alone
        (math.nan, 0.7, 0.75, 1.0),
    ],
)
def test_relevance_of_typical_pairs(
    cosine: float, coverage: float, low: float, high: float
) -> None:
    assert low <= _of(cosine, coverage) <= high
