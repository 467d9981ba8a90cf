"""The largest of many values, without sorting them all."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from luma_memory.pipeline.recall.groups import Indices

# Of so many values one is looked at to find a bound that the best of all reach.
_SAMPLED: Final = 16


def top(
    values: npt.NDArray[np.floating[Any]], limit: int, numbers: Indices | None = None
) -> list[int]:
    """The numbers of the largest values, best first, the lower number first among equals.

    numbers: of each value, rising; None for its index.
    """
    if len(values) > limit:
        # All ties of the last place are kept, so that the result is deterministic.
        best = np.flatnonzero(values >= bound(values, limit))
        values = values[best]
        numbers = best if numbers is None else numbers[best]
    order = np.argsort(-values, kind="stable")[:limit]
    found: list[int] = (order if numbers is None else numbers[order]).tolist()
    return found


def bound(values: npt.NDArray[np.floating[Any]], limit: int) -> float:
    """A value that at least `limit` reach, and few more than that; there are more values."""
    # The best of a part are among the best of all: so only a part has to be partitioned.
    if len(values) > 4 * _SAMPLED * limit:
        values = values[values >= bound(values[::_SAMPLED], limit)]
    place = len(values) - limit
    return float(np.partition(values, place)[place])
