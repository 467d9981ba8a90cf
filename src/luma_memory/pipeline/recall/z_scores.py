"""Standard deviations above the mean of a scope: the unit in which scores are fused."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.groups import Floats

PRIOR_COUNT: Final = 10


def z_scores_of(values: npt.NDArray[np.float32], prior: Calibration) -> tuple[Floats, bool]:
    """Deviations above the mean of the existing values and PRIOR_COUNT values of the prior, and
    whether all values exist.

    NaN stays NaN. All 0 if all values equal a prior without deviation.
    """
    # Few passes, each in the memory of the one before: this is much of what a large scope costs.
    z_scores = values.astype(np.float64)
    total, count = float(z_scores.sum()), len(z_scores)
    if has_absent := math.isnan(total):
        total, count = float(np.nansum(z_scores)), int(np.count_nonzero(~np.isnan(z_scores)))
    count += PRIOR_COUNT
    mean = (total + PRIOR_COUNT * prior.mean) / count
    z_scores -= mean
    # Not by BLAS, whose dot product starts threads above 10,000 elements: they cost more than they
    # save, and delay each other on a busy machine.
    spread = _square_sum(z_scores[~np.isnan(z_scores)] if has_absent else z_scores)
    spread += PRIOR_COUNT * (prior.deviation**2 + (prior.mean - mean) ** 2)
    if spread > 0:
        z_scores *= 1.0 / math.sqrt(spread / count)
    return z_scores, not has_absent


def _square_sum(values: Floats) -> float:
    return float(np.einsum("i,i->", values, values))
