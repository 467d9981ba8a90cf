"""Sort what is nearly sorted: after a change, all but a few rows lie as they did before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from luma_memory.pipeline.recall.groups import Indices


def sorted_order(
    first: npt.NDArray[np.generic], others: Sequence[npt.NDArray[Any]], *, near: Indices
) -> Indices:
    """Indices that sort by the first key, and by the others where it is equal.

    near: all indices once, in any order; the nearer to the result, the less there is to do.
    """
    # The stable sort takes about one pass over a few sorted runs; a sort by several keys does not.
    order = near[np.argsort(first[near], kind="stable")]
    ordered = first[order]
    is_tie = ordered[1:] == ordered[:-1]
    wrong = is_tie & _falls(order, others)
    if not wrong.any():
        return order
    group = np.concatenate([[0], np.cumsum(~is_tie)])
    unsorted = np.zeros(group[-1] + 1, dtype=bool)
    unsorted[group[1:][wrong]] = True
    places = np.flatnonzero(unsorted[group])
    rows = order[places]
    order[places] = rows[np.lexsort((*(key[rows] for key in reversed(others)), group[places]))]
    return order


def _falls(order: Indices, keys: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """[n-1] whether each place is followed by one with smaller keys."""
    falls = np.zeros(max(len(order) - 1, 0), dtype=bool)
    for key in reversed(keys):
        values = key[order]
        falls = (values[1:] < values[:-1]) | ((values[1:] == values[:-1]) & falls)
    return falls
