"""Two retrievers' scores over a whole scope, fused into ranked blocks.

Cosine and BM25 have no common unit, so each is standardised over the scope: how many standard
deviations a passage stands above what this question gets there anyway. Three things follow:

- *Many passages.* The best of many unrelated passages stands high by chance alone, and long blocks
  would crowd out short ones. So a block's standing is its best passage's, less what the best of as
  many unrelated passages is expected to have (order statistics of the normal distribution). On
  chats with long messages that raised recall@10 from 0.62 to 0.68; exact tail probabilities of the
  best of k gave 0.65. It is done for each retriever before fusing, which was as good or better
  than fusing passages first.
- *Small scopes.* The mean and deviation of three blocks say little, so PRIOR_COUNT imagined
  passages that have nothing to do with the question are counted with the real ones.
- *No embedding yet.* A block is found before it is embedded: its dense standing is then guessed
  from its lexical one, on the cautious side. A scope without any embeddings is the same case.

Ranks alone (reciprocal-rank fusion) forget by how much a block stands out. That and the plain
retrievers are here as the baselines which evaluation prints beside the fusion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]
_Real = TypeVar("_Real", bound=np.floating[Any])
_Scalar = TypeVar("_Scalar", bound=np.generic)

PRIOR_COUNT: Final = 10
RANK_CONSTANT: Final = 60  # the usual one

# On long and short chats, passages one lexical deviation higher were 0.2 to 0.5 dense ones higher.
_GUESSED_SHARE: Final = 0.25
_GUESSED_MAX: Final = 3.0
# A standing of 3 is about the best that some hundreds of unrelated blocks reach by chance.
_SCORE_MIDPOINT: Final = 3.0
# Beyond so many passages a block's correction stays as it is; it grows by under 0.2 a doubling.
_CORRECTED_PASSAGES_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Background:
    """Cosine of a question with text that has nothing to do with it; a property of the model."""

    mean: float = 0.1
    deviation: float = 0.12  # > 0


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """What one standard deviation of each retriever counts. Raises ValueError unless both > 0.

    Measured: two-person chats do best with lexical 0.5-0.7, user/assistant chats with 0.5-1.0.
    """

    dense: float = 1.0
    lexical: float = 0.5

    def __post_init__(self) -> None:
        if not (self.dense > 0 and self.lexical > 0):
            raise ValueError("weights must be above 0")


BACKGROUND: Final = Background()
WEIGHTS: Final = FusionWeights()


@dataclass(frozen=True, slots=True, eq=False)
class ScopeScores:
    """All passages of one scope as the two retrievers score them for one question.

    n passages of m blocks. Blocks are numbered 0..m-1 and each has at least one passage; the lower
    number wins a tie, so number them in the order that ties shall have.
    """

    dense: npt.NDArray[np.float32]  # [n] cosine, -1..1; NaN where there is no embedding (yet)
    lexical: npt.NDArray[np.float32]  # [n] BM25, >= 0; 0 where no term matches
    block: Indices  # [n] the passage's block; cheapest when it never falls


@dataclass(frozen=True, slots=True)
class Parts:
    """Why a block has its score: the values of `explain`."""

    dense_similarity: float | None  # best passage's cosine; None without an embedding
    lexical_score: float  # best passage's BM25
    dense_standing: float  # standard deviations; guessed where dense_similarity is None
    lexical_standing: float
    standing: float  # weighted sum of the two, in deviations again; ranks, and becomes the score
    weights: FusionWeights


@dataclass(frozen=True, slots=True)
class RankedBlock:
    """One block of a ranking."""

    block: int
    passage: int  # index of the passage that speaks for it
    score: float  # 0..1, never rising down the ranking
    parts: Parts


def fuse(
    scores: ScopeScores,
    *,
    limit: int,
    weights: FusionWeights = WEIGHTS,
    background: Background = BACKGROUND,
) -> Sequence[RankedBlock]:
    """The best blocks of a scope by both retrievers, best first, at most `limit`.

    A block with neither an embedding nor a matching term is left out: nothing speaks for it.
    score = 1 / (1 + exp(3 - standing)): 0.05 for an average block, 0.5 where chance ends.
    Raises ValueError if limit < 1 or the arrays do not fit each other.
    """
    groups = _Groups(scores, limit)
    if not groups.count:
        return ()
    standings = _standings(scores, groups, weights, background)
    spoken_for = (groups.total(~np.isnan(scores.dense)) > 0) | (groups.best(scores.lexical) > 0)
    return [
        _ranked(block, groups.passages(block), scores, standings)
        for block in _top(standings.blocks, spoken_for, limit)
    ]


def rank_dense(scores: ScopeScores, *, limit: int) -> Sequence[int]:
    """Baseline: blocks by their best passage's cosine, best first; no vector, no place."""
    groups = _Groups(scores, limit)
    if not groups.count:
        return ()
    best = groups.best(scores.dense)
    return _top(best, ~np.isnan(best), limit)


def rank_lexical(scores: ScopeScores, *, limit: int) -> Sequence[int]:
    """Baseline: blocks by their best passage's BM25, best first; no match, no place."""
    groups = _Groups(scores, limit)
    if not groups.count:
        return ()
    best = groups.best(scores.lexical)
    return _top(best, best > 0, limit)


def rank_reciprocal(
    scores: ScopeScores, *, limit: int, rank_constant: int = RANK_CONSTANT
) -> Sequence[int]:
    """Baseline: the two rankings above, whole, fused by the sum of 1 / (rank_constant + rank).

    Source: reciprocal rank fusion, Cormack et al., SIGIR 2009.
    """
    groups = _Groups(scores, limit)
    if not groups.count:
        return ()
    fused = np.zeros(groups.count)
    for ranking in (rank_dense, rank_lexical):
        ranked = np.asarray(ranking(scores, limit=groups.count), dtype=np.intp)
        fused[ranked] += 1.0 / (rank_constant + 1.0 + np.arange(len(ranked)))
    return _top(fused, fused > 0, limit)


class _Groups:
    """Passages gathered by block, so that each reduction is one pass without a Python loop."""

    def __init__(self, scores: ScopeScores, limit: int) -> None:
        block = scores.block
        if not len(block) == len(scores.dense) == len(scores.lexical):
            raise ValueError("dense, lexical and block must have one value per passage")
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        falls = bool(np.any(block[1:] < block[:-1]))
        self._order = np.argsort(block, kind="stable") if falls else None
        ordered = block if self._order is None else block[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
        self.count = len(self._starts)
        if self.count and (ordered[0] != 0 or ordered[-1] != self.count - 1):
            raise ValueError("blocks must be numbered 0..m-1, each with a passage")
        self._single = self.count == len(ordered)
        self.sizes = np.diff(np.r_[self._starts, len(ordered)])

    def best(self, values: npt.NDArray[_Real]) -> npt.NDArray[_Real]:
        """[m] largest value of each block's passages; NaN only where all are NaN."""
        ordered = self._ordered(values)
        return ordered if self._single else np.fmax.reduceat(ordered, self._starts)

    def total(self, flags: npt.NDArray[np.bool_]) -> Indices:
        """[m] how many of each block's passages have the flag."""
        counts = self._ordered(flags).astype(np.intp)
        return counts if self._single else np.add.reduceat(counts, self._starts)

    def chance(self, counts: Indices) -> Floats:
        """[m] what the best of so many unrelated passages is expected to stand at; 0 for one."""
        if self._single:
            return np.zeros(len(counts))
        return _expected_best()[np.minimum(counts, _CORRECTED_PASSAGES_MAX)]

    def passages(self, block: int) -> Indices:
        """Indices of a block's passages, in the order of the arrays."""
        start = int(self._starts[block])
        span = np.arange(start, start + int(self.sizes[block]))
        return span if self._order is None else self._order[span]

    def _ordered(self, values: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        return values if self._order is None else values[self._order]


@dataclass(frozen=True, slots=True, eq=False)
class _Standings:
    """Deviations above the scope's mean."""

    dense_passages: Floats  # [n] NaN where there is no embedding
    lexical_passages: Floats  # [n]
    dense: Floats  # [m] corrected for the number of passages, and guessed where there is none
    lexical: Floats  # [m] corrected likewise
    blocks: Floats  # [m] both together
    weights: FusionWeights

    def speaker(self, passages: Indices) -> int:
        """Which of these passages stands highest, the first of equals."""
        lexical = self.lexical_passages[passages]
        dense = _or_guess(self.dense_passages[passages], lexical)
        return int(passages[np.argmax(_combine(dense, lexical, self.weights))])


def _standings(
    scores: ScopeScores, groups: _Groups, weights: FusionWeights, background: Background
) -> _Standings:
    dense = _standardise(scores.dense, background)
    # The imagined unrelated passages match no term.
    lexical = _standardise(scores.lexical, Background(mean=0.0, deviation=0.0))
    lexical_block = groups.best(lexical) - groups.chance(groups.sizes)
    dense_block = groups.best(dense) - groups.chance(groups.total(~np.isnan(dense)))
    dense_block = _or_guess(dense_block, lexical_block)
    return _Standings(
        dense_passages=dense,
        lexical_passages=lexical,
        dense=dense_block,
        lexical=lexical_block,
        blocks=_combine(dense_block, lexical_block, weights),
        weights=weights,
    )


def _standardise(values: npt.NDArray[np.float32], prior: Background) -> Floats:
    """Deviations above the mean of the values that are there and PRIOR_COUNT of the prior's.

    NaN stays NaN. All equal to a prior without deviation: all 0.
    """
    exact = values.astype(np.float64)
    present = exact[~np.isnan(exact)]
    count = len(present) + PRIOR_COUNT
    mean = (float(present.sum()) + PRIOR_COUNT * prior.mean) / count
    centred = present - mean
    spread = float(centred @ centred)
    spread += PRIOR_COUNT * (prior.deviation**2 + (prior.mean - mean) ** 2)
    return (exact - mean) / math.sqrt(spread / count) if spread > 0 else exact - mean


def _or_guess(dense: Floats, lexical: Floats) -> Floats:
    """The dense standing; where there is none, what the words alone suggest."""
    return np.where(np.isnan(dense), np.minimum(_GUESSED_SHARE * lexical, _GUESSED_MAX), dense)


def _combine(dense: Floats, lexical: Floats, weights: FusionWeights) -> Floats:
    """The weighted sum, divided so that two independent deviations of 1 give a deviation of 1."""
    scale = math.hypot(weights.dense, weights.lexical)
    return (weights.dense * dense + weights.lexical * lexical) / scale


def _top(
    values: npt.NDArray[np.floating[Any]], eligible: npt.NDArray[np.bool_], limit: int
) -> list[int]:
    """Indices of the largest eligible values, best first, the lower index first among equals."""
    candidates = np.flatnonzero(eligible)
    if len(candidates) > limit:
        # All equals of the last place are kept, so that which of them stay is not left to chance.
        place = len(candidates) - limit
        last = np.partition(values[candidates], place)[place]
        candidates = candidates[values[candidates] >= last]
    order = np.argsort(-values[candidates], kind="stable")[:limit]
    return [int(index) for index in candidates[order]]


def _ranked(
    block: int, passages: Indices, scores: ScopeScores, standings: _Standings
) -> RankedBlock:
    similarity = float(np.fmax.reduce(scores.dense[passages]))
    standing = float(standings.blocks[block])
    parts = Parts(
        dense_similarity=None if math.isnan(similarity) else similarity,
        lexical_score=float(scores.lexical[passages].max()),
        dense_standing=float(standings.dense[block]),
        lexical_standing=float(standings.lexical[block]),
        standing=standing,
        weights=standings.weights,
    )
    score = _logistic(standing - _SCORE_MIDPOINT)
    return RankedBlock(block, standings.speaker(passages), score, parts)


def _logistic(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * value))


@lru_cache(maxsize=1)
def _expected_best() -> Floats:
    """Expected largest of k standard normal values at index k; 0 for k = 0.

    Source: the approximation of Blom, "Statistical Estimates and Transformed Beta-Variables", 1958.
    """
    normal = NormalDist()
    counts = range(1, _CORRECTED_PASSAGES_MAX + 1)
    return np.array([0.0, *(normal.inv_cdf((k - 0.375) / (k + 0.25)) for k in counts)])
