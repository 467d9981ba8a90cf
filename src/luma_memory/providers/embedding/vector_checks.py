"""Validation of vectors before they are stored or compared."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

import numpy as np
import numpy.typing as npt

from luma_memory.domain.enrichment import Vector
from luma_memory.domain.errors import ProviderResponseInvalid

# Below this length a direction is rounding noise.
_NORM_MIN: Final = 1e-9


@dataclass(frozen=True, slots=True)
class IndexedValues:
    """One vector as a provider sent it."""

    index: int  # position of its text in the request, from 0
    values: npt.NDArray[np.float32]


def checked_vectors(
    received: Sequence[IndexedValues], *, count: int, dimension: int | None
) -> list[Vector]:
    """Unit vectors in the order of the texts. Raises the first error of `checked_each`."""
    vectors: list[Vector] = []
    for outcome in checked_each(received, count=count, dimension=dimension):
        if isinstance(outcome, ProviderResponseInvalid):
            raise outcome
        vectors.append(outcome)
    return vectors


def checked_each(
    received: Sequence[IndexedValues], *, count: int, dimension: int | None
) -> list[Vector | ProviderResponseInvalid]:
    """A unit vector for each text, in their order, or the error: missing,
    of another dimension, of length zero, or not finite.

    received: any order, each index of 0..count-1 at most once. dimension: None accepts any
    dimension that all share. Raises ProviderResponseInvalid if vectors cannot be matched to texts.
    """
    by_index = {vector.index: vector.values for vector in received}
    if len(by_index) != len(received) or not by_index.keys() <= set(range(count)):
        raise ProviderResponseInvalid("The provider numbered its vectors wrongly.")
    if count and not by_index:
        raise ProviderResponseInvalid(f"The provider sent no vectors for {count} texts.")
    ordered = [by_index.get(index) for index in range(count)]
    expected = dimension or next((values.size for values in ordered if _is_plain(values)), 0)
    return [_unit_or_fault(values, expected, len(received)) for values in ordered]


def _is_plain(values: npt.NDArray[np.float32] | None) -> TypeGuard[npt.NDArray[np.float32]]:
    return values is not None and values.size > 0


def _unit_or_fault(
    values: npt.NDArray[np.float32] | None, dimension: int, sent: int
) -> Vector | ProviderResponseInvalid:
    if values is None:
        return ProviderResponseInvalid(f"The provider left a text out; it sent {sent} vectors.")
    try:
        return _unit(values, dimension)
    except ProviderResponseInvalid as error:
        return error


def _unit(values: npt.NDArray[np.float32], dimension: int) -> Vector:
    if values.ndim != 1 or values.size != dimension or dimension == 0:
        raise ProviderResponseInvalid(
            f"The provider sent a vector of {values.size} values where {dimension} are expected."
        )
    if not np.isfinite(values).all():
        raise ProviderResponseInvalid("The provider sent a vector with a value that is not finite.")
    # In float64: squares of float32 values overflow and underflow.
    wide = values.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    if norm < _NORM_MIN:
        raise ProviderResponseInvalid("The provider sent a vector without length.")
    return array("f", (wide / norm).astype(np.float32).tobytes())
