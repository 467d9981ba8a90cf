"""Whether a block is about a question at all, in 0..1, meaning the same for all models.

The ranking score cannot express it: it measures how far a block stands out in its scope, and some
block stands out for every question. The cosine does, in deviations above the model's own
calibration (`pipeline.recall.calibration`), together with the share of the question's words that
the block has.
On development chats the best of ten blocks separates questions about things stored from questions
about things never stored with an AUC of 0.99 and 0.95; the ranking score with 0.79 and 0.69
(docs/recall.md).

A vector is near to whatever looks alike: "Error E0999" to every other error code. So a code, a
number or a name in the question that no passage of the scope has counts against all of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import Calibration

Floats = npt.NDArray[np.float64]

# Deviations that a block with all of the question's words is nearer than one with none.
_COVERAGE_WEIGHT: Final = 1.5
# Deviations at which it is as likely as not. 0.75 is 1.1 further.
_MIDPOINT: Final = 3.6
# Words alone: 0.75 where a block has 60 percent of what the question's words weigh. A number or a
# code that is found as it was written is relevant whatever a model makes of it.
# Of a block of the time that a question asks about and about nothing else.
RELEVANCE_BY_TIME: Final = 0.9
_WORDS_SLOPE: Final = 10.0
_WORDS_MIDPOINT: Final = 0.49
# Of pairs of characters 40 percent: those across two words, and of endings, differ in any case.
_PAIRS_MIDPOINT: Final = 0.29
# What is left of the relevance where nothing in the scope has the things that a question names.
_UNKNOWN_FACTOR: Final = 0.4


def relevance(
    cosine: npt.NDArray[np.float32],
    coverage: npt.NDArray[np.float32],
    calibration: Calibration,
    *,
    unknown: float = 0.0,
) -> Floats:
    """[n] relevance of passages, in 0..1; it rises with both.

    cosine: -1..1, NaN where there is no vector: then by words alone. coverage: 0..1, the share of
    the question's words, weighted by idf. unknown: 0..1, the share of the codes, numbers and names
    in the question that no passage of the scope has.
    """
    deviations = (cosine.astype(np.float64) - calibration.mean) / calibration.deviation
    together = _logistic(deviations + _COVERAGE_WEIGHT * coverage - _MIDPOINT)
    return np.fmax(together * _known_factor(unknown), word_relevance(coverage, unknown=unknown))


def word_relevance(
    coverage: npt.NDArray[np.float32], *, unknown: float = 0.0, by_pairs: bool = False
) -> Floats:
    """[n] relevance by words alone, for text that the embedding model cannot read.

    by_pairs: the question's words are pairs of characters, as of scripts without spaces.
    """
    midpoint = _PAIRS_MIDPOINT if by_pairs else _WORDS_MIDPOINT
    words = _logistic(_WORDS_SLOPE * (coverage.astype(np.float64) - midpoint))
    return words * _known_factor(unknown)


def _known_factor(unknown: float) -> float:
    return 1.0 - (1.0 - _UNKNOWN_FACTOR) * unknown


def _logistic(values: Floats) -> Floats:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * values))
