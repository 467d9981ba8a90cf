"""Whether a block is about a question at all, in 0..1, meaning the same for all models.

The ranking score cannot say it: it tells how far a block stands out in its scope, and something
stands out for every question. What tells is the cosine itself, counted in deviations above the
model's own background (`pipeline.background`), together with the share of the question's words that
the block has. On development chats the best of ten blocks tells questions about things stored from
questions about things never stored with an AUC of 0.99 and 0.95; the ranking score with 0.79 and
0.69 (docs/recall.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import Calibration

# Deviations that a block with all of the question's words is nearer than one with none.
_COVERAGE_WEIGHT: Final = 1.5
# Deviations at which it is as likely as not. 0.75 is 1.1 further.
_MIDPOINT: Final = 3.6
# Words alone: 0.75 where a block has 60 percent of what the question's words weigh. A number or a
# code that is found as it was written is relevant whatever a model makes of it.
_WORDS_SLOPE: Final = 10.0
_WORDS_MIDPOINT: Final = 0.49


def relevance(
    cosine: npt.NDArray[np.float32], coverage: npt.NDArray[np.float32], background: Calibration
) -> npt.NDArray[np.float64]:
    """[n] relevance of passages, in 0..1; it rises with both.

    cosine: -1..1, NaN where there is no vector: then by words alone. coverage: 0..1, the share of
    the question's words by what they tell (idf).
    """
    words = _logistic(_WORDS_SLOPE * (coverage.astype(np.float64) - _WORDS_MIDPOINT))
    deviations = (cosine.astype(np.float64) - background.mean) / background.deviation
    together = _logistic(deviations + _COVERAGE_WEIGHT * coverage - _MIDPOINT)
    return np.fmax(together, words)


def _logistic(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * values))
