"""Passages by block: the maxima and counts that fusion needs, each in one pass over the arrays."""

from __future__ import annotations

from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]
_Real = TypeVar("_Real", bound=np.floating[Any])
_Scalar = TypeVar("_Scalar", bound=np.generic)

# Beyond so many passages a block's correction stays as it is; it grows by under 0.2 a doubling.
_CORRECTED_PASSAGES_MAX: Final = 512


class PassageGroups:
    """The blocks of n passages; no question changes them.

    block: [n] numbers 0..m-1, each at least once; cheapest when they never fall. Raises ValueError
    if a number is missing. sizes: [m] passages of each block. is_single: each has one.
    is_plain: that of its own number.
    """

    def __init__(self, block: Indices) -> None:
        self.block = block
        falls = bool(np.any(block[1:] < block[:-1]))
        self._order = np.argsort(block, kind="stable") if falls else None
        ordered = block if self._order is None else block[self._order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
        self.count = len(self.starts)
        if self.count and (ordered[0] != 0 or ordered[-1] != self.count - 1):
            raise ValueError("blocks must be numbered 0..m-1, each with a passage")
        self.is_single = self.count == len(ordered)
        self.is_plain = self.is_single and self._order is None
        self.sizes = np.diff(np.r_[self.starts, len(ordered)])

    def best(self, values: npt.NDArray[_Real]) -> npt.NDArray[_Real]:
        """[m] largest value of each block's passages; NaN only where all are NaN."""
        ordered = self._ordered(values)
        return ordered if self.is_single else np.fmax.reduceat(ordered, self.starts)

    def total(self, flags: npt.NDArray[np.bool_]) -> Indices:
        """[m] how many of each block's passages have the flag."""
        counts = self._ordered(flags).astype(np.intp)
        return counts if self.is_single else np.add.reduceat(counts, self.starts)

    def chance(self, counts: Indices) -> Floats:
        """[m] expected z-score of the best of so many unrelated passages; 0 for one."""
        return _expected_best()[np.minimum(counts, _CORRECTED_PASSAGES_MAX)]

    @cached_property
    def size_chance(self) -> Floats:
        """[m] `chance` of all of each block's passages."""
        return self.chance(self.sizes)

    def of(self, passages: Indices) -> Indices:
        """Their blocks."""
        # Arrays that need not be read leave their place in the caches to others.
        return passages if self.is_plain else self.block[passages]

    def passages(self, block: int) -> Indices:
        """Indices of a block's passages, in the order of the arrays."""
        start = int(self.starts[block])
        span = np.arange(start, start + int(self.sizes[block]))
        return span if self._order is None else self._order[span]

    def members(self, blocks: Indices) -> Indices:
        """Indices of the passages of some blocks, block after block."""
        if self.is_single:
            return blocks if self._order is None else self._order[blocks]
        sizes = self.sizes[blocks]
        before = np.cumsum(sizes) - sizes
        span = np.repeat(self.starts[blocks] - before, sizes) + np.arange(int(sizes.sum()))
        return span if self._order is None else self._order[span]

    def _ordered(self, values: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        return values if self._order is None else values[self._order]


@lru_cache(maxsize=1)
def _expected_best() -> Floats:
    """Expected largest of k standard normal values at index k; 0 for k = 0 and k = 1.

    Source: the approximation of Blom, "Statistical Estimates and Transformed Beta-Variables", 1958.
    """
    normal = NormalDist()
    counts = range(1, _CORRECTED_PASSAGES_MAX + 1)
    return np.array([0.0, *(normal.inv_cdf((k - 0.375) / (k + 0.25)) for k in counts)])
