"""Two retrievers' scores over a whole scope, and what surrounds a block, fused into ranked blocks.

Cosine and BM25 have no common unit, so each becomes a z-score over the scope: standard deviations
above what this question gets there anyway. Three things follow:

- *Many passages.* The best of many unrelated passages stands high by chance alone, and long blocks
  would crowd out short ones. So a block's z-score is its best passage's, less what the best of as
  many unrelated passages is expected to have (order statistics of the normal distribution). On
  chats with long messages that raised recall@10 from 0.62 to 0.68; exact tail probabilities of the
  best of k gave 0.65. It is done for each retriever before fusing, which was as good or better
  than fusing passages first.
- *Small scopes.* The mean and deviation of three blocks say little, so PRIOR_COUNT imagined
  passages that have nothing to do with the question are counted with the real ones.
- *No embedding yet.* A block is found before it is embedded: its dense z-score is then guessed
  from its lexical one, and its context's from its dense one.

A turn of a chat says little by itself. The context z-score is that of the windows of turns which
contain the block; then come whole deviations for a block that the question's speaker said and for
one of a time it names, and a share of the z-score of the session's best block. Every weight
was measured with one conversation left out at a time: docs/recall.md.

Ranks alone (reciprocal-rank fusion) forget by how much a block stands out. That and the plain
retrievers are here as the baselines which evaluation prints beside the fusion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import Calibration

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]
_Real = TypeVar("_Real", bound=np.floating[Any])
_Scalar = TypeVar("_Scalar", bound=np.generic)

PRIOR_COUNT: Final = 10
RANK_CONSTANT: Final = 60  # the usual one

# On long and short chats, passages one lexical deviation higher were 0.2 to 0.5 dense ones higher.
_GUESSED_SHARE: Final = 0.25
# A window without a vector is about as near to the question as the block itself.
_GUESSED_CONTEXT_SHARE: Final = 0.8
_GUESSED_MAX: Final = 3.0
# A z-score of 3 is about the best that some hundreds of unrelated blocks reach by chance.
_SCORE_MIDPOINT: Final = 3.0
# Beyond so many passages a block's correction stays as it is; it grows by under 0.2 a doubling.
_CORRECTED_PASSAGES_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """What one standard deviation counts. Raises ValueError unless all of them are above 0."""

    dense: float = 1.0
    lexical: float = 0.7
    context: float = 0.6

    def __post_init__(self) -> None:
        if not (self.dense > 0 and self.lexical > 0 and self.context > 0):
            raise ValueError("weights must be above 0")


@dataclass(frozen=True, slots=True)
class Additions:
    """What is added to a block's z-score, in deviations, each >= 0."""

    speaker: float = 1.0  # its speaker is the one the question means
    time: float = 0.5  # it is of a time the question names
    session: float = 0.5  # share of the z-score of its session's best block


# About what models made for retrieval have; for when a model's own is not known.
AVERAGE_CALIBRATION: Final = Calibration(mean=0.1, deviation=0.12)
WEIGHTS: Final = FusionWeights()
ADDITIONS: Final = Additions()


@dataclass(frozen=True, slots=True, eq=False)
class NeighborScores:
    """What is known of the m blocks beside their own passages; w windows of turns."""

    session: Indices  # [m] 0.., equal in one session; a block without one has its own
    windows: npt.NDArray[np.float32]  # [w] cosine, -1..1, never NaN
    covered: Indices  # [w, turns] blocks in each window, -1 where it has fewer
    meant: npt.NDArray[np.bool_]  # [m] said by the speaker the question means
    timely: Floats  # [m] >= 0, 0 where it is of no time the question names


@dataclass(frozen=True, slots=True, eq=False)
class ScopeScores:
    """All passages of one scope as the two retrievers score them for one question.

    n passages of m blocks. Blocks are numbered 0..m-1 and each has at least one passage; the lower
    number wins a tie, so number them in the order that ties shall have.
    """

    dense: npt.NDArray[np.float32]  # [n] cosine, -1..1; NaN where there is no embedding (yet)
    lexical: npt.NDArray[np.float32]  # [n] BM25, >= 0; 0 where no term matches
    block: Indices  # [n] the passage's block; cheapest when it never falls
    # [n] BM25 of the passage's own words where `lexical` has the neighbors' too.
    own_lexical: npt.NDArray[np.float32] | None = None
    neighbor_scores: NeighborScores | None = None  # None: nothing is known


@dataclass(frozen=True, slots=True)
class Parts:
    """Why a block has its score: the values of `explain`."""

    dense_similarity: float | None  # best passage's cosine; None without an embedding
    lexical_score: float  # best passage's BM25, words lent by its neighbors included
    dense_z_score: float  # guessed where dense_similarity is None
    lexical_z_score: float
    context_z_score: float  # of the windows it is in; guessed where there is none
    speaker: float  # added
    time: float  # added
    session: float  # z-score of the best block of its session, its own where it is the best
    z_score: float  # all together, in deviations again; ranks, and becomes the score
    weights: FusionWeights
    relation: float = 0.0  # added, in deviations; see pipeline.related


@dataclass(frozen=True, slots=True)
class RankedBlock:
    """One block of a ranking."""

    block: int
    passage: int  # index of its best passage
    score: float  # 0..1, never rising down the ranking
    parts: Parts


def fuse(
    scores: ScopeScores,
    *,
    limit: int,
    weights: FusionWeights = WEIGHTS,
    additions: Additions = ADDITIONS,
    calibration: Calibration = AVERAGE_CALIBRATION,
) -> Sequence[RankedBlock]:
    """The best blocks of a scope by all that is known of them; see `Fusion`."""
    fusion = Fusion(scores, weights=weights, additions=additions, calibration=calibration)
    return fusion.best(limit)


class Fusion:
    """The z-scores of all blocks of a scope, ranked on request.

    Raises ValueError if the arrays do not fit each other.
    """

    def __init__(
        self,
        scores: ScopeScores,
        *,
        weights: FusionWeights = WEIGHTS,
        additions: Additions = ADDITIONS,
        calibration: Calibration = AVERAGE_CALIBRATION,
    ) -> None:
        self._scores = scores
        self._groups = groups = _Groups(scores, 1)
        if groups.count:
            self._z_scores = _z_scores(scores, groups, weights, additions, calibration)
            has_vector = groups.total(~np.isnan(scores.dense)) > 0
            self._has_score = has_vector | (groups.best(scores.lexical) > 0)
            if scores.neighbor_scores is not None:
                # "What did I do yesterday?", before any block of yesterday has a vector.
                self._has_score |= scores.neighbor_scores.timely > 0

    def z_score(self, block: int) -> float:
        """In deviations, without any gain."""
        return float(self._z_scores.blocks[block])

    def best(self, limit: int, *, gains: Mapping[int, float] | None = None) -> list[RankedBlock]:
        """Best first, at most `limit`. gains: added to the z-scores of some blocks.

        A block with neither an embedding, a matching term nor a time named is left out.
        score = 1 / (1 + exp(3 - z_score)): 0.05 for an average block, 0.5 where chance ends.
        Raises ValueError if limit < 1.
        """
        if limit < 1:
            raise ValueError("limit must be at least 1")
        if not self._groups.count:
            return []
        blocks = self._z_scores.blocks
        if gains:
            blocks = blocks.copy()
            blocks[list(gains)] += list(gains.values())
        return [
            _ranked(
                block,
                self._groups.passages(block),
                self._scores,
                self._z_scores,
                gain=gains.get(block, 0.0) if gains else 0.0,
            )
            for block in _top(blocks, self._has_score, limit)
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
    best = groups.best(scores.lexical if scores.own_lexical is None else scores.own_lexical)
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
        """[m] expected z-score of the best of so many unrelated passages; 0 for one."""
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
class _ZScores:
    """Deviations above the scope's mean."""

    dense_passages: Floats  # [n] NaN where there is no embedding
    lexical_passages: Floats  # [n]
    dense: Floats  # [m] corrected for the number of passages, and guessed where there is none
    lexical: Floats  # [m] corrected likewise
    context: Floats  # [m] guessed where there is none
    speaker: Floats  # [m] added
    time: Floats  # [m] added
    session: Floats  # [m] of the session's best block
    blocks: Floats  # [m] all together
    weights: FusionWeights

    def best_passage(self, passages: Indices) -> int:
        """The best of these passages, the first of equals."""
        lexical = self.lexical_passages[passages]
        dense = _or_guess(self.dense_passages[passages], lexical)
        together = self.weights.dense * dense + self.weights.lexical * lexical
        return int(passages[np.argmax(together)])


def _z_scores(
    scores: ScopeScores,
    groups: _Groups,
    weights: FusionWeights,
    additions: Additions,
    calibration: Calibration,
) -> _ZScores:
    dense = _z_scores_of(scores.dense, calibration)
    # The imagined unrelated passages match no term.
    lexical = _z_scores_of(scores.lexical, Calibration(mean=0.0, deviation=0.0))
    lexical_block = groups.best(lexical) - groups.chance(groups.sizes)
    dense_block = groups.best(dense) - groups.chance(groups.total(~np.isnan(dense)))
    dense_block = _or_guess(dense_block, lexical_block)
    context = _context(scores.neighbor_scores, groups.count, calibration)
    context = np.where(
        np.isnan(context), np.minimum(_GUESSED_CONTEXT_SHARE * dense_block, _GUESSED_MAX), context
    )
    own = _combine(dense_block, lexical_block, context, weights)
    around = scores.neighbor_scores
    speaker, time = np.zeros(groups.count), np.zeros(groups.count)
    if around is not None:
        speaker[around.meant] = additions.speaker
        time = additions.time * around.timely
    own = own + speaker + time
    session = own if around is None else _best_of_session(own, around.session)
    return _ZScores(
        dense_passages=dense,
        lexical_passages=lexical,
        dense=dense_block,
        lexical=lexical_block,
        context=context,
        speaker=speaker,
        time=time,
        session=session,
        blocks=(own + additions.session * session) / (1.0 + additions.session),
        weights=weights,
    )


def _context(around: NeighborScores | None, count: int, calibration: Calibration) -> Floats:
    """[m] mean z-score of the windows that contain each block; NaN in none."""
    if around is None or not len(around.windows):
        return np.full(count, np.nan)
    z_scores = np.repeat(_z_scores_of(around.windows, calibration), around.covered.shape[1])
    covered = around.covered.ravel()
    inside = covered >= 0
    total = np.bincount(covered[inside], weights=z_scores[inside], minlength=count)
    times = np.bincount(covered[inside], minlength=count)
    return np.where(times > 0, total / np.maximum(times, 1), np.nan)


def _best_of_session(own: Floats, session: Indices) -> Floats:
    best = np.full(int(session.max()) + 1, -np.inf)
    np.maximum.at(best, session, own)
    found: Floats = best[session]
    return found


def _z_scores_of(values: npt.NDArray[np.float32], prior: Calibration) -> Floats:
    """Deviations above the mean of the values that are there and PRIOR_COUNT of the prior's.

    NaN stays NaN. All equal to a prior without deviation: all 0.
    """
    exact = values.astype(np.float64)
    present = exact[~np.isnan(exact)]
    count = len(present) + PRIOR_COUNT
    mean = (float(present.sum()) + PRIOR_COUNT * prior.mean) / count
    centered = present - mean
    # Not by BLAS, whose dot product starts threads above 10,000 elements: they cost more than they
    # save, and wait for one another on a busy machine.
    spread = float(np.square(centered).sum())
    spread += PRIOR_COUNT * (prior.deviation**2 + (prior.mean - mean) ** 2)
    return (exact - mean) / math.sqrt(spread / count) if spread > 0 else exact - mean


def _or_guess(dense: Floats, lexical: Floats) -> Floats:
    """The dense z-score; where there is none, what the words alone suggest."""
    return np.where(np.isnan(dense), np.minimum(_GUESSED_SHARE * lexical, _GUESSED_MAX), dense)


def _combine(dense: Floats, lexical: Floats, context: Floats, weights: FusionWeights) -> Floats:
    """The weighted sum, divided so that independent deviations of 1 give a deviation of 1."""
    scale = math.hypot(weights.dense, weights.lexical, weights.context)
    total = weights.dense * dense + weights.lexical * lexical + weights.context * context
    return total / scale


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
    block: int, passages: Indices, scores: ScopeScores, z_scores: _ZScores, *, gain: float
) -> RankedBlock:
    similarity = float(np.fmax.reduce(scores.dense[passages]))
    z_score = float(z_scores.blocks[block]) + gain
    parts = Parts(
        dense_similarity=None if math.isnan(similarity) else similarity,
        lexical_score=float(scores.lexical[passages].max()),
        dense_z_score=float(z_scores.dense[block]),
        lexical_z_score=float(z_scores.lexical[block]),
        context_z_score=float(z_scores.context[block]),
        speaker=float(z_scores.speaker[block]),
        time=float(z_scores.time[block]),
        session=float(z_scores.session[block]),
        z_score=z_score,
        weights=z_scores.weights,
        relation=gain,
    )
    score = _logistic(z_score - _SCORE_MIDPOINT)
    return RankedBlock(block, z_scores.best_passage(passages), score, parts)


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
