"""Fuses two retrievers' scores over a scope, and those of a block's context, into a ranking.

Cosine and BM25 have no common unit, so each becomes a z-score over the scope: standard deviations
above the mean for this question. This has three consequences:

- *Many passages.* The best of many unrelated passages has a high score by chance alone, so long
blocks
  would crowd out short ones. So a block's z-score is its best passage's, minus the score that the
  best of as many unrelated passages is expected to have (order statistics of the normal
  distribution). On chats with long messages that raised recall@10 from 0.62 to 0.68; exact tail
  probabilities of the best of k gave 0.65. It is done for each retriever before fusing, which was
  as good or better than fusing passages first.
- *Small scopes.* The mean and deviation of three blocks are unreliable, so PRIOR_COUNT imagined
  passages unrelated to the question are counted with the real ones.
- *No embedding yet.* A block is found before it is embedded: its dense z-score is then estimated
  from its lexical one, and its context's from its dense one.

A chat turn alone has little content. The context z-score is that of the windows of turns which
contain the block; then deviations are added for a block of the question's speaker and for
one of a time it names, and a share of the z-score of the session's best block. Every weight
was measured with one conversation left out at a time: docs/recall.md.

Ranks alone (reciprocal-rank fusion) ignore by how much a block stands out. That and the plain
retrievers are the baselines that evaluation reports next to the fusion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.arrangement import Coverage, coverage_of
from luma_memory.pipeline.recall.groups import Floats, Indices, PassageGroups

PRIOR_COUNT: Final = 10
RANK_CONSTANT: Final = 60  # the usual one

# On long and short chats, passages one lexical deviation higher were 0.2 to 0.5 dense ones higher.
_GUESSED_SHARE: Final = 0.25
# A window without a vector is about as near to the question as the block itself.
_GUESSED_CONTEXT_SHARE: Final = 0.8
_GUESSED_MAX: Final = 3.0
# A z-score of 3 is about the best that some hundreds of unrelated blocks reach by chance.
_SCORE_MIDPOINT: Final = 3.0


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """The weight of each part's standard deviation. Raises ValueError unless all are above 0."""

    dense: float = 1.0
    lexical: float = 0.7
    context: float = 0.6

    def __post_init__(self) -> None:
        if not (self.dense > 0 and self.lexical > 0 and self.context > 0):
            raise ValueError("weights must be above 0")


@dataclass(frozen=True, slots=True)
class Additions:
    """Additions to a block's z-score, in deviations, each >= 0."""

    speaker: float = 1.0  # for the speaker that the question means
    time: float = 0.5  # for a time that the question names
    session: float = 0.5  # share of the z-score of its session's best block


# Of so many values one is looked at to find a bound that the best of all reach.
_SAMPLED: Final = 16

# Typical of retrieval models; used if a model's own calibration is unknown.
AVERAGE_CALIBRATION: Final = Calibration(mean=0.1, deviation=0.12)
WEIGHTS: Final = FusionWeights()
ADDITIONS: Final = Additions()


@dataclass(frozen=True, slots=True, eq=False)
class NeighborScores:
    """Data about the m blocks besides their own passages; w windows of turns."""

    session: Indices  # [m] 0.., equal in one session; a block without one has its own
    windows: npt.NDArray[np.float32]  # [w] cosine, -1..1, never NaN
    covered: Indices  # [w, turns] blocks in each window, -1 where it has fewer
    meant: npt.NDArray[np.bool_]  # [m] said by the speaker the question means
    timely: Floats  # [m] >= 0, 0 where it is of no time the question names
    # Independent of the question: from an arrangement, otherwise derived from the above.
    coverage: Coverage | None = None
    session_order: tuple[Indices, Indices] | None = None  # blocks by session; where each begins


@dataclass(frozen=True, slots=True, eq=False)
class ScopeScores:
    """All passages of one scope as the two retrievers score them for one question.

    n passages of m blocks. Blocks are numbered 0..m-1 and each has at least one passage; the lower
    number wins a tie, so number them in the intended order of ties.
    """

    dense: npt.NDArray[np.float32]  # [n] cosine, -1..1; NaN where there is no embedding (yet)
    lexical: npt.NDArray[np.float32]  # [n] BM25, >= 0; 0 where no term matches
    block: Indices  # [n] the passage's block; fastest if ascending
    # [n] BM25 of the passage's own words if `lexical` includes the neighbors'.
    own_lexical: npt.NDArray[np.float32] | None = None
    neighbor_scores: NeighborScores | None = None  # None: no data
    groups: PassageGroups | None = None  # of `block`, where an arrangement keeps them


class Parts(NamedTuple):
    """The parts of a block's score, as shown by `explain`. A tuple, of which searches make many."""

    dense_similarity: float | None  # best passage's cosine; None without an embedding
    lexical_score: float  # best passage's BM25, words lent by its neighbors included
    dense_z_score: float  # estimated if dense_similarity is None
    lexical_z_score: float
    context_z_score: float  # of the windows that contain it; estimated without one
    speaker: float  # added
    time: float  # added
    session: float  # z-score of the best block of its session, its own if it is the best
    z_score: float  # the combination, in deviations; determines rank and score
    weights: FusionWeights
    relation: float = 0.0  # added, in deviations; see pipeline.related


class RankedBlock(NamedTuple):
    """One block of a ranking."""

    block: int
    passage: int  # index of its best passage
    score: float  # 0..1, descending
    parts: Parts


def fuse(
    scores: ScopeScores,
    *,
    limit: int,
    weights: FusionWeights = WEIGHTS,
    additions: Additions = ADDITIONS,
    calibration: Calibration = AVERAGE_CALIBRATION,
) -> Sequence[RankedBlock]:
    """The best blocks of a scope by all their scores; see `Fusion`."""
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
        self._kept: tuple[int, list[int]] | None = None  # best blocks, up to so many
        self._groups = groups = _groups(scores, 1)
        if groups.count:
            self._z_scores = _z_scores(scores, groups, weights, additions, calibration)
            self._has_score = _has_score(scores, groups)

    def z_score(self, block: int) -> float:
        """The z-scores in deviations, without gains."""
        return float(self._z_scores.blocks[block])

    def best(self, limit: int, *, gains: Mapping[int, float] | None = None) -> list[RankedBlock]:
        """Best first, at most `limit`. gains: added to the z-scores of some blocks.

        A block without an embedding, a matching term and a named time is omitted.
        score = 1 / (1 + exp(3 - z_score)): 0.05 for an average block, 0.5 at the limit of chance.
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
            best = _top(blocks, self._has_score, limit)
        else:
            best = self._best(limit)
        return _ranked(best, self._groups, self._scores, self._z_scores, gains or {})

    def best_blocks(self, limit: int) -> list[int]:
        """The blocks that `best` returns without gains, by number."""
        return self._best(limit) if self._groups.count else []

    def _best(self, limit: int) -> list[int]:
        """The ranking without gains, cached: relations need more blocks than are returned."""
        if self._kept is None or self._kept[0] < limit:
            self._kept = limit, _top(self._z_scores.blocks, self._has_score, limit)
        return self._kept[1][:limit]


def rank_dense(scores: ScopeScores, *, limit: int) -> Sequence[int]:
    """Baseline: blocks by their best passage's cosine, best first; only blocks with a vector."""
    groups = _groups(scores, limit)
    if not groups.count:
        return ()
    best = groups.best(scores.dense)
    return _top(best, ~np.isnan(best), limit)


def rank_lexical(scores: ScopeScores, *, limit: int) -> Sequence[int]:
    """Baseline: blocks by their best passage's BM25, best first; only blocks with a match."""
    groups = _groups(scores, limit)
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
    groups = _groups(scores, limit)
    if not groups.count:
        return ()
    fused = np.zeros(groups.count)
    for ranking in (rank_dense, rank_lexical):
        ranked = np.asarray(ranking(scores, limit=groups.count), dtype=np.intp)
        fused[ranked] += 1.0 / (rank_constant + 1.0 + np.arange(len(ranked)))
    return _top(fused, fused > 0, limit)


def _groups(scores: ScopeScores, limit: int) -> PassageGroups:
    if not len(scores.block) == len(scores.dense) == len(scores.lexical):
        raise ValueError("dense, lexical and block must have one value per passage")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    return scores.groups or PassageGroups(scores.block)


@dataclass(frozen=True, slots=True, eq=False)
class _ZScores:
    """Deviations above the scope's mean."""

    dense_passages: Floats  # [n] NaN where there is no embedding
    lexical_passages: Floats  # [n]
    dense: Floats  # [m] corrected for the number of passages, and estimated without a value
    lexical: Floats  # [m] corrected likewise
    context: Floats  # [m] estimated without a value
    speaker: Floats  # [m] added
    time: Floats  # [m] added
    session: Floats  # [m] of the session's best block
    blocks: Floats  # [m] all together
    weights: FusionWeights

    def together(self, passages: Indices) -> Floats:
        """[k] by which of its passages a block is shown."""
        lexical = self.lexical_passages[passages]
        dense = _or_guess(self.dense_passages[passages], lexical)
        return self.weights.dense * dense + self.weights.lexical * lexical


def _z_scores(
    scores: ScopeScores,
    groups: PassageGroups,
    weights: FusionWeights,
    additions: Additions,
    calibration: Calibration,
) -> _ZScores:
    dense = _z_scores_of(scores.dense, calibration)
    # The imagined unrelated passages match no term.
    lexical = _z_scores_of(scores.lexical, Calibration(mean=0.0, deviation=0.0))
    lexical_block = groups.best(lexical)
    dense_block = groups.best(dense)
    if not groups.is_single:
        lexical_block = lexical_block - groups.size_chance
        dense_block = dense_block - groups.chance(groups.total(~np.isnan(dense)))
    dense_block = _or_guess(dense_block, lexical_block)
    context = _context(scores.neighbor_scores, dense_block, calibration)
    own = _combine(dense_block, lexical_block, context, weights)
    around = scores.neighbor_scores
    speaker: Floats = np.zeros(groups.count)
    time: Floats = np.zeros(groups.count)
    if around is not None and around.meant.any():
        speaker[around.meant] = additions.speaker
        own += speaker
    if around is not None and around.timely.any():
        np.multiply(around.timely, additions.time, out=time)
        own += time
    session = own if around is None else _best_of_session(own, around)
    return _ZScores(
        dense_passages=dense,
        lexical_passages=lexical,
        dense=dense_block,
        lexical=lexical_block,
        context=context,
        speaker=speaker,
        time=time,
        session=session,
        blocks=_with_session(own, session, additions),
        weights=weights,
    )


def _with_session(own: Floats, session: Floats, additions: Additions) -> Floats:
    together = np.multiply(session, additions.session)
    together += own
    together /= 1.0 + additions.session
    return together


def _has_score(scores: ScopeScores, groups: PassageGroups) -> npt.NDArray[np.bool_] | None:
    """[m] whether the block has any score; None if each has a vector."""
    if not math.isnan(float(scores.dense.sum())):
        return None
    has_vector = ~np.isnan(groups.best(scores.dense))
    has_score: npt.NDArray[np.bool_] = has_vector | (groups.best(scores.lexical) > 0)
    if scores.neighbor_scores is not None:
        # "What did I do yesterday?", before any block of yesterday has a vector.
        has_score |= scores.neighbor_scores.timely > 0
    return has_score


def _context(around: NeighborScores | None, dense: Floats, calibration: Calibration) -> Floats:
    """[m] mean z-score of the windows that contain each block; estimated without a window.

    dense: [m] z-scores.
    """
    if around is None or not len(around.windows):
        return _guessed_context(dense)
    inside = around.coverage or coverage_of(around.covered, len(dense))
    z_scores = _z_scores_of(around.windows, calibration)[inside.windows]
    sums = np.bincount(inside.blocks, weights=z_scores, minlength=len(dense))
    total: Floats = sums / inside.counts
    total[inside.alone] = _guessed_context(dense[inside.alone])
    return total


def _guessed_context(dense: Floats) -> Floats:
    return np.minimum(_GUESSED_CONTEXT_SHARE * dense, _GUESSED_MAX)


def _best_of_session(own: Floats, around: NeighborScores) -> Floats:
    """[m] the best z-score of each block's session."""
    session = around.session
    if around.session_order is None:
        session = np.unique(session, return_inverse=True)[1]
        order = np.argsort(session, kind="stable")
        starts = np.flatnonzero(np.diff(session[order], prepend=-1))
    else:
        order, starts = around.session_order
    best = np.maximum.reduceat(own[order], starts)
    found: Floats = best[session]
    return found


def _z_scores_of(values: npt.NDArray[np.float32], prior: Calibration) -> Floats:
    """Deviations above the mean of the existing values and PRIOR_COUNT values of the prior.

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
    return z_scores


def _square_sum(values: Floats) -> float:
    return float(np.einsum("i,i->", values, values))


def _or_guess(dense: Floats, lexical: npt.NDArray[Any]) -> Floats:
    """The dense z-score; without one, an estimate from the lexical z-score."""
    if not math.isnan(float(dense.sum())):
        return dense
    return np.where(np.isnan(dense), np.minimum(_GUESSED_SHARE * lexical, _GUESSED_MAX), dense)


def _combine(
    dense: Floats, lexical: npt.NDArray[Any], context: Floats, weights: FusionWeights
) -> Floats:
    """The weighted sum, divided so that independent deviations of 1 give a deviation of 1."""
    scale = math.hypot(weights.dense, weights.lexical, weights.context)
    total: Floats = (weights.dense / scale) * dense
    term = (weights.lexical / scale) * lexical
    total += term
    np.multiply(context, weights.context / scale, out=term)
    total += term
    return total


def _top(
    values: npt.NDArray[np.floating[Any]], eligible: npt.NDArray[np.bool_] | None, limit: int
) -> list[int]:
    """Indices of the largest eligible values (None: all are), best first, the lower index first
    among equals."""
    candidates = None if eligible is None else np.flatnonzero(eligible)
    ranked = values if candidates is None else values[candidates]
    if len(ranked) > limit:
        # All ties of the last place are kept, so that the result is deterministic.
        best = np.flatnonzero(ranked >= _bound(ranked, limit))
        candidates = best if candidates is None else candidates[best]
    elif candidates is None:
        candidates = np.arange(len(ranked))
    order = np.argsort(-values[candidates], kind="stable")[:limit]
    return [int(index) for index in candidates[order]]


def _bound(values: npt.NDArray[np.floating[Any]], limit: int) -> float:
    """A value that at least `limit` reach, and few more than that."""
    # The best of a part are among the best of all: so only a part has to be partitioned.
    if len(values) > 4 * _SAMPLED * limit:
        values = values[values >= _bound(values[::_SAMPLED], limit)]
    place = len(values) - limit
    return float(np.partition(values, place)[place])


def _ranked(
    blocks: Sequence[int],
    groups: PassageGroups,
    scores: ScopeScores,
    z_scores: _ZScores,
    gains: Mapping[int, float],
) -> list[RankedBlock]:
    """The blocks with their parts, read at once: one by one would take longer than the fusion."""
    if not blocks:
        return []
    at = np.array(blocks, dtype=np.intp)
    passages, sizes = groups.members(at), groups.sizes[at]
    starts = np.cumsum(sizes) - sizes
    together = z_scores.together(passages)
    is_best = together == np.repeat(np.maximum.reduceat(together, starts), sizes)
    best = np.flatnonzero(is_best)
    first = best[np.searchsorted(best, starts)]  # of equal ones
    columns = (
        passages[first],
        np.fmax.reduceat(scores.dense[passages], starts),
        z_scores.blocks[at],
        # As `Parts` has them:
        np.maximum.reduceat(scores.lexical[passages], starts),
        z_scores.dense[at],
        z_scores.lexical[at],
        z_scores.context[at],
        z_scores.speaker[at],
        z_scores.time[at],
        z_scores.session[at],
    )
    found = []
    for row in zip(blocks, *(column.tolist() for column in columns), strict=True):
        block, passage, similarity, own, lexical, dense, lexical_z, *others = row
        context, speaker, time, session = others
        gain = gains.get(block, 0.0)
        cosine = None if math.isnan(similarity) else similarity
        z_score = own + gain
        # In the order of their definition: names would take twice the time.
        parts = Parts(
            cosine, lexical, dense, lexical_z, context, speaker, time, session, z_score,
            z_scores.weights, gain,
        )  # fmt: skip
        score = _logistic(z_score - _SCORE_MIDPOINT)
        found.append(RankedBlock(block, passage, score, parts))
    return found


def _logistic(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * value))
