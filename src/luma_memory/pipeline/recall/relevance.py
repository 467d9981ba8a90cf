"""Whether a block is about a question at all, in 0..1, comparable between models.

The ranking score cannot express it: it measures how much a block stands out in its scope, and some
block stands out for every question. The cosine does, in deviations above the model's own
calibration (`pipeline.recall.calibration`), together with the share of the question's words that
the block has.
On development chats the best of ten blocks separates questions about stored subjects from questions
about subjects never stored with an AUC of 0.99 and 0.95; the ranking score with 0.79 and 0.69
(docs/recall.md).

Texts of similar form have similar vectors: "Error E0999" and every other error code. So a code, a
number or a name in the question that no passage of the scope has lowers the relevance of all of
them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import Calibration

Floats = npt.NDArray[np.float64]

# Deviations that full coverage of the question's words adds.
_COVERAGE_WEIGHT: Final = 1.5
# Deviations at which the relevance is 0.5; 0.75 is 1.1 above.
_MIDPOINT: Final = 3.6
# By words alone, 0.75 is reached with 60 percent of the weight of the question's words. A number or
# a code found as written is relevant whatever its vector. The relevance of a block from the time
# that a question names, if it names nothing else.
RELEVANCE_BY_TIME: Final = 0.9
_WORDS_SLOPE: Final = 10.0
_WORDS_MIDPOINT: Final = 0.49
# For pairs of characters 40 percent: pairs across two words and in endings differ in any case.
_PAIRS_MIDPOINT: Final = 0.29
# The remaining factor if no passage in the scope has the identifiers of a question.
_UNKNOWN_FACTOR: Final = 0.4


def relevance(
    cosine: npt.NDArray[np.float32],
    coverage: npt.NDArray[np.float32],
    calibration: Calibration,
    *,
    unknown: float | Floats = 0.0,
) -> Floats:
    """[n] relevance of passages, in 0..1; it rises with both inputs.

    cosine: -1..1, NaN without a vector: then by words alone. coverage: 0..1, the share of
    the question's words, weighted by idf. unknown: 0..1, the share of the codes, numbers and names
    in the question that no passage of the scope has, of all passages or [n] of each.
    """
    deviations = (cosine.astype(np.float64) - calibration.mean) / calibration.deviation
    together = _logistic(deviations + _COVERAGE_WEIGHT * coverage - _MIDPOINT)
    return np.fmax(together * _known_factor(unknown), word_relevance(coverage, unknown=unknown))


def word_relevance(
    coverage: npt.NDArray[np.float32], *, unknown: float | Floats = 0.0, by_pairs: bool = False
) -> Floats:
    """[n] relevance by words alone, for text that the embedding model cannot read.

    by_pairs: the question's words are pairs of characters, as in scripts without spaces.
    """
    midpoint = _PAIRS_MIDPOINT if by_pairs else _WORDS_MIDPOINT
    words = _logistic(_WORDS_SLOPE * (coverage.astype(np.float64) - midpoint))
    return words * _known_factor(unknown)


def _known_factor(unknown: float | Floats) -> float | Floats:
    return 1.0 - (1.0 - _UNKNOWN_FACTOR) * unknown


def _logistic(values: Floats) -> Floats:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * values))
