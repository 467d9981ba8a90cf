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
from itertools import repeat
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import Calibration
from luma_memory.pipeline.recall.arrangement import Coverage, coverage_of
from luma_memory.pipeline.recall.groups import Floats, Indices, PassageGroups
from luma_memory.pipeline.recall.top import bound, top
from luma_memory.pipeline.recall.z_scores import z_scores_of

# On long and short chats, passages one lexical deviation higher were 0.2 to 0.5 dense ones higher.
_GUESSED_SHARE: Final = 0.25
# A window without a vector is about as near to the question as the block itself.
_GUESSED_CONTEXT_SHARE: Final = 0.8
_GUESSED_MAX: Final = 3.0
# A z-score of 3 is about the best that some hundreds of unrelated blocks reach by chance.
_SCORE_MIDPOINT: Final = 3.0
# More than the z-scores of two equal blocks differ by the order of their additions.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """The weight of each part's standard deviation. Raises ValueError unless all are above 0."""

    dense: float = 1.0
    lexical: float = 0.7
    context: float = 0.6

    def __post_init__(self) -> None:
        if not (self.dense > 0 and self.lexical > 0 and self.context > 0):
            raise ValueError("weights must be above 0")

    @property
    def scale(self) -> float:
        """By this the weighted sum is divided, so that independent deviations of 1 give one of
        1."""
        return math.hypot(self.dense, self.lexical, self.context)


@dataclass(frozen=True, slots=True)
class Additions:
    """Additions to a block's z-score, in deviations, each >= 0."""

    speaker: float = 1.0  # for the speaker that the question means
    time: float = 0.5  # for a time that the question names
    session: float = 0.5  # share of the z-score of its session's best block


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
    # [n] BM25 of the passage's own words if `lexical` includes the neighbors'; for the baselines.
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

    words: computed beforehand, with the weights and additions to use; None computes them here.
    Raises ValueError if the arrays do not fit each other.
    """

    def __init__(
        self,
        scores: ScopeScores,
        *,
        weights: FusionWeights = WEIGHTS,
        additions: Additions = ADDITIONS,
        calibration: Calibration = AVERAGE_CALIBRATION,
        words: WordScores | None = None,
    ) -> None:
        self._scores = scores
        self._kept: tuple[int, list[int]] | None = None  # best blocks, up to so many
        self._groups = groups = groups_of(scores, 1)
        if groups.count:
            around = scores.neighbor_scores
            words = words or word_scores(
                scores.lexical,
                groups,
                meant=around.meant if around else None,
                timely=around.timely if around else None,
                weights=weights,
                additions=additions,
            )
            self._z_scores = _z_scores(scores, groups, words, calibration)

    def z_score(self, block: int) -> float:
        """The z-scores in deviations, without gains."""
        return float(self._z_scores.of(np.array([block]))[0])

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
        best = self._top(limit, gains) if gains else self._best(limit)
        return _ranked(best, self._groups, self._scores, self._z_scores, gains or {})

    def best_blocks(self, limit: int) -> list[int]:
        """The blocks that `best` returns without gains, by number."""
        return self._best(limit) if self._groups.count else []

    def _best(self, limit: int) -> list[int]:
        """The ranking without gains, cached: relations need more blocks than are returned."""
        if self._kept is None or self._kept[0] < limit:
            self._kept = limit, self._top(limit, {})
        return self._kept[1][:limit]

    def _top(self, limit: int, gains: Mapping[int, float]) -> list[int]:
        has_score = _has_score(self._scores, self._groups, self._z_scores)
        if has_score is None:
            candidates = self._z_scores.candidates(limit + len(gains))
        else:
            candidates = np.flatnonzero(has_score)
        if gains and candidates is not None and has_score is None:
            candidates = np.union1d(candidates, np.fromiter(gains, dtype=np.intp))
        values = self._z_scores.of(candidates)
        if gains:
            every = np.zeros(self._groups.count)
            every[list(gains)] = list(gains.values())
            values = values + (every if candidates is None else every[candidates])
        return top(values, limit, candidates)


def groups_of(scores: ScopeScores, limit: int) -> PassageGroups:
    if not len(scores.block) == len(scores.dense) == len(scores.lexical):
        raise ValueError("dense, lexical and block must have one value per passage")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    return scores.groups or PassageGroups(scores.block)


@dataclass(frozen=True, slots=True, eq=False)
class WordScores:
    """The part of a fusion that needs no vector, so that it is there once the question has one."""

    weights: FusionWeights
    additions: Additions
    passages: Floats  # [n] lexical z-scores
    blocks: Floats  # [m] corrected for the number of passages
    speaker: Floats  # [m] added
    time: Floats  # [m] added
    known: Floats  # [m] what `blocks`, `speaker` and `time` contribute to the z-score


def word_scores(
    lexical: npt.NDArray[np.float32],
    groups: PassageGroups,
    *,
    meant: npt.NDArray[np.bool_] | None = None,
    timely: Floats | None = None,
    weights: FusionWeights = WEIGHTS,
    additions: Additions = ADDITIONS,
) -> WordScores:
    """lexical: [n] as in `ScopeScores`. meant, timely: [m] as in `NeighborScores`; None: none."""
    # The imagined unrelated passages match no term.
    passages, _ = z_scores_of(lexical, Calibration(mean=0.0, deviation=0.0))
    blocks = groups.best(passages)
    if not groups.is_single:
        blocks = blocks - groups.size_chance
    known = blocks * (weights.lexical / weights.scale)
    speaker: Floats = np.broadcast_to(np.float64(0.0), groups.count)
    time: Floats = speaker
    if meant is not None and meant.any():
        speaker = np.where(meant, additions.speaker, 0.0)
        known += speaker
    if timely is not None and timely.any():
        time = timely * additions.time
        known += time
    return WordScores(weights, additions, passages, blocks, speaker, time, known)


@dataclass(frozen=True, slots=True, eq=False)
class _ZScores:
    """Deviations above the scope's mean."""

    words: WordScores
    dense_passages: Floats  # [n] NaN where there is no embedding
    is_whole: bool  # whether each passage has one
    dense: Floats  # [m] corrected for the number of passages, and estimated without a value
    context: Floats  # [m] estimated without a value
    own: Floats  # [m] together, but for the session
    session: Indices | None  # [m] of each block; None: each is its own
    order: Indices | None  # the blocks by session
    starts: Indices | None  # where each session begins in `order`
    best: Floats  # [sessions] of the session's best block

    def of_session(self, blocks: Indices | None) -> Floats:
        """[k] the z-score of the best block of each block's session. blocks: None is all."""
        if self.session is None:
            return self.own if blocks is None else self.own[blocks]
        found: Floats = self.best[self.session if blocks is None else self.session[blocks]]
        return found

    def of(self, blocks: Indices | None) -> Floats:
        """[k] all together. blocks: None is all."""
        share = self.words.additions.session
        together = self.of_session(blocks) * share
        together += self.own if blocks is None else self.own[blocks]
        together /= 1.0 + share
        return together

    def candidates(self, limit: int) -> Indices | None:
        """Rising numbers of blocks, the `limit` best among them; None if these are all.

        The best block of a session has that session's z-score, and no other one is above it: so
        the best blocks are in the sessions that are best.
        """
        if self.order is None or self.starts is None or len(self.best) <= limit:
            return None
        sessions = np.flatnonzero(self.best >= bound(self.best, limit) - _ROUNDING)
        sizes = np.diff(np.append(self.starts, len(self.order)))[sessions]
        before = np.cumsum(sizes) - sizes
        span = np.repeat(self.starts[sessions] - before, sizes) + np.arange(int(sizes.sum()))
        found: Indices = np.sort(self.order[span])
        return found

    def together(self, passages: Indices) -> Floats:
        """[k] by which of its passages a block is shown."""
        weights, lexical = self.words.weights, self.words.passages[passages]
        dense = _or_guess(self.dense_passages[passages], lexical, is_whole=self.is_whole)
        return weights.dense * dense + weights.lexical * lexical


def _z_scores(
    scores: ScopeScores, groups: PassageGroups, words: WordScores, calibration: Calibration
) -> _ZScores:
    passages, is_whole = z_scores_of(scores.dense, calibration)
    dense = groups.best(passages)
    if not groups.is_single:
        counts = groups.sizes if is_whole else groups.total(~np.isnan(passages))
        dense = dense - (groups.size_chance if is_whole else groups.chance(counts))
    dense = _or_guess(dense, words.blocks, is_whole=is_whole)
    around, weights = scores.neighbor_scores, words.weights
    context = _context(around, dense, calibration)
    # Few passes, each in the memory of the one before: this is much of what a large scope costs.
    own: Floats = dense * (weights.dense / weights.scale)
    own += context * (weights.context / weights.scale)
    own += words.known
    session = order = starts = None
    best = own
    if around is not None:
        session, order, starts = _sessions(around)
        best = np.maximum.reduceat(own[order], starts)
    return _ZScores(
        words, passages, is_whole, dense, context, own, session, order, starts, best
    )  # fmt: skip


def _sessions(around: NeighborScores) -> tuple[Indices, Indices, Indices]:
    """Each block's session, the blocks by session, and where each session begins among them."""
    if around.session_order is not None:
        return around.session, *around.session_order
    session = np.unique(around.session, return_inverse=True)[1]
    order = np.argsort(session, kind="stable")
    return session, order, np.flatnonzero(np.diff(session[order], prepend=-1))


def _has_score(
    scores: ScopeScores, groups: PassageGroups, z_scores: _ZScores
) -> npt.NDArray[np.bool_] | None:
    """[m] whether the block has any score; None if each has a vector."""
    if z_scores.is_whole:
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
    z_scores = np.append(z_scores_of(around.windows, calibration)[0], 0.0)  # at the end: of none
    first, *others = inside.windows
    total: Floats = z_scores[first]
    for windows in others:
        total += z_scores[windows]
    total *= inside.shares
    total[inside.alone] = _guessed_context(dense[inside.alone])
    return total


def _guessed_context(dense: Floats) -> Floats:
    return np.minimum(_GUESSED_CONTEXT_SHARE * dense, _GUESSED_MAX)


def _or_guess(dense: Floats, lexical: Floats, *, is_whole: bool) -> Floats:
    """The dense z-score; without one, an estimate from the lexical z-score."""
    if is_whole:
        return dense
    return np.where(np.isnan(dense), np.minimum(_GUESSED_SHARE * lexical, _GUESSED_MAX), dense)


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
    totals = z_scores.of(at)
    if gains:
        gained = [gains.get(block, 0.0) for block in blocks]
        totals += gained
    else:
        gained = [0.0] * len(blocks)
    cosines = np.fmax.reduceat(scores.dense[passages], starts)
    # As `Parts` has them. Column by column: with a name for each value it takes twice the time.
    parts = zip(
        cosines.tolist() if z_scores.is_whole else _or_none(cosines),
        np.maximum.reduceat(scores.lexical[passages], starts).tolist(),
        z_scores.dense[at].tolist(),
        z_scores.words.blocks[at].tolist(),
        z_scores.context[at].tolist(),
        z_scores.words.speaker[at].tolist(),
        z_scores.words.time[at].tolist(),
        z_scores.of_session(at).tolist(),
        totals.tolist(),
        repeat(z_scores.words.weights),
        gained,
    )
    shown = passages[first].tolist()
    score = _logistic(totals - _SCORE_MIDPOINT).tolist()
    ranked = zip(blocks, shown, score, map(Parts._make, parts), strict=True)
    return list(map(RankedBlock._make, ranked))


def _or_none(cosines: npt.NDArray[np.float32]) -> list[float | None]:
    return [None if math.isnan(cosine) else cosine for cosine in cosines.tolist()]


def _logistic(values: Floats) -> Floats:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * values))
