"""Rankings that evaluation reports beside the fusion: each retriever alone, and their ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from luma_memory.pipeline.recall.fusion import ScopeScores, groups_of
from luma_memory.pipeline.recall.top import top

RANK_CONSTANT: Final = 60  # the usual one


def rank_dense(scores: ScopeScores, *, limit: int) -> Sequence[int]:
    """Baseline: blocks by their best passage's cosine, best first; only blocks with a vector."""
    groups = groups_of(scores, limit)
    if not groups.count:
        return ()
    best = groups.best(scores.dense)
    return _top(best, ~np.isnan(best), limit)


def rank_lexical(scores: ScopeScores, *, limit: int) -> Sequence[int]:
    """Baseline: blocks by their best passage's BM25, best first; only blocks with a match."""
    groups = groups_of(scores, limit)
    if not groups.count:
        return ()
    best = groups.best(scores.lexical if scores.own_lexical is None else scores.own_lexical)
    return _top(best, best > 0, limit)


def rank_reciprocal(
    scores: ScopeScores, *, limit: int, rank_constant: int = RANK_CONSTANT
) -> Sequence[int]:
    """Baseline: the two complete rankings above, fused by the sum of 1 / (rank_constant + rank).

    Source: reciprocal rank fusion, Cormack et al., SIGIR 2009.
    """
    groups = groups_of(scores, limit)
    if not groups.count:
        return ()
    fused = np.zeros(groups.count)
    for ranking in (rank_dense, rank_lexical):
        ranked = np.asarray(ranking(scores, limit=groups.count), dtype=np.intp)
        fused[ranked] += 1.0 / (rank_constant + 1.0 + np.arange(len(ranked)))
    return _top(fused, fused > 0, limit)


def _top(
    values: npt.NDArray[np.floating[Any]], eligible: npt.NDArray[np.bool_], limit: int
) -> list[int]:
    numbers = np.flatnonzero(eligible)
    return top(values[numbers], limit, numbers)
