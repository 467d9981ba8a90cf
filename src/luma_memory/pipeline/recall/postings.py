"""Which passages contain a term: few of a scope's, so that they are kept as a list of positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from luma_memory.pipeline.recall.groups import Indices


@dataclass(frozen=True, slots=True, eq=False)
class Posting:
    """The k passages that contain a term, each once."""

    passages: Indices  # [k] rising
    weights: npt.NDArray[np.float32]  # [k], > 0

    @property
    def frequency(self) -> int:
        """How many passages contain the term."""
        return len(self.passages)


def posting_of(column: npt.NDArray[np.float32]) -> Posting:
    """column: [n] the term's weight in each passage; 0 where it is absent."""
    passages = np.flatnonzero(column)
    return Posting(passages, column[passages])


def best_form(postings: Sequence[Posting]) -> Posting:
    """One word by its forms: where a passage contains several, the largest weight."""
    found = [posting for posting in postings if posting.frequency]
    if len(found) <= 1:
        return found[0] if found else postings[0]
    passages = np.concatenate([posting.passages for posting in found])
    weights = np.concatenate([posting.weights for posting in found])
    order = np.argsort(passages, kind="stable")
    passages = passages[order]
    starts = np.flatnonzero(np.r_[True, passages[1:] != passages[:-1]])
    return Posting(passages[starts], np.maximum.reduceat(weights[order], starts))
