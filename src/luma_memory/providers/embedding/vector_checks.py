"""What every vendor's vectors must pass before anything is stored or compared."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.enrichment import Vector
from luma_memory.domain.errors import ProviderResponseInvalid

# Below this length a direction is rounding noise.
_NORM_MIN: Final = 1e-9


@dataclass(frozen=True, slots=True)
class IndexedValues:
    """One vector as a provider sent it."""

    index: int  # place of its text in the request, from 0
    values: npt.NDArray[np.float32]


def checked_vectors(
    answers: Sequence[IndexedValues], *, count: int, dimension: int | None
) -> list[Vector]:
    """Unit vectors in the order of the texts.

    answers: any order, each index of 0..count-1 exactly once. dimension: None accepts any that all
    share.
    Raises ProviderResponseInvalid for a wrong count, index or dimension, and for a vector with a
    value that is not finite or with no length.
    """
    ordered = _in_text_order(answers, count)
    expected = dimension or (ordered[0].size if ordered else 0)
    return [_unit(values, expected) for values in ordered]


def _in_text_order(answers: Sequence[IndexedValues], count: int) -> list[npt.NDArray[np.float32]]:
    if len(answers) != count:
        raise ProviderResponseInvalid(
            f"The provider sent {len(answers)} vectors for {count} texts."
        )
    by_index = {answer.index: answer.values for answer in answers}
    if by_index.keys() != set(range(count)):
        raise ProviderResponseInvalid("The provider numbered its vectors wrongly.")
    return [by_index[index] for index in range(count)]


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
