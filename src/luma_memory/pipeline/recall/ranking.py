"""The ranking of a scope's blocks for one question, with the explanation of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import Calibration, Explanation, Ranking
from luma_memory.pipeline.recall.fusion import (
    ADDITIONS,
    Fusion,
    RankedBlock,
    rank_dense,
    rank_lexical,
    rank_reciprocal,
)
from luma_memory.pipeline.recall.related import NumberedLink, Related, with_relations
from luma_memory.pipeline.recall.relevance import RELEVANCE_BY_TIME, relevance, word_relevance
from luma_memory.pipeline.recall.scope_layout import ScopeLayout

# Names of z-scores in the API, older than the term in this code.
_WIRE_NAMES: Final[Mapping[str, str]] = {
    "dense_z_score": "dense_standing",
    "lexical_z_score": "lexical_standing",
    "context_z_score": "context_standing",
    "session_z_score": "session_standing",
    "z_score": "standing",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One block of a ranking of any kind."""

    block: int
    score: float
    relevance: float
    word_relevance: float  # if the embedding model cannot read the block's text
    passage: int  # ordinal of its best passage
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class RelevanceScale:
    """Derives the relevance of a block from its cosine and its words."""

    calibration: Calibration
    is_legible: bool  # whether the embedding model can read the question
    by_pairs: bool  # whether its words are pairs of characters

    def of(self, block: int, layout: ScopeLayout) -> tuple[float, float]:
        """The relevance of the block's best passage: with the cosine, and by words alone."""
        if layout.is_proven_by_time(block):
            return RELEVANCE_BY_TIME, RELEVANCE_BY_TIME
        coverage, unknown = layout.words_of(block)
        words = _best(word_relevance(coverage, unknown=unknown, by_pairs=self.by_pairs))
        if not self.is_legible:
            return words, words
        dense = layout.scores.dense[layout.passages(block)]
        found = _best(relevance(dense, coverage, self.calibration, unknown=unknown))
        return found, words


def place_blocks(
    layout: ScopeLayout,
    by: Fusion | Ranking,
    scale: RelevanceScale,
    links: Sequence[NumberedLink],
    *,
    limit: int,
    explain: bool,
) -> Sequence[Place]:
    """The best blocks, best first, at most `limit`. by: the fusion, or the name of a baseline."""

    def place(block: int, score: float, explanation: Explanation, passage: int = 0) -> Place:
        return Place(block, score, *scale.of(block, layout), passage, explanation)

    if isinstance(by, Fusion):
        related = with_relations(by, links, limit=limit) if links else Related(by.best(limit))
        return [
            place(
                found.block,
                found.score,
                _explanation(found, layout, related) if explain else {},
                int(layout.ordinals[found.passage]),
            )
            for found in related.ranked
        ]
    rank = {"dense": rank_dense, "lexical": rank_lexical, "reciprocal": rank_reciprocal}[by]
    # Baselines only rank: scores decrease from 1 and are not comparable with others.
    return [
        place(block, 1.0 / number, {"rank": number} if explain else {})
        for number, block in enumerate(rank(layout.scores, limit=limit), start=1)
    ]


def _best(values: npt.NDArray[np.float64]) -> float:
    return float(values.max())


def _explanation(place: RankedBlock, layout: ScopeLayout, related: Related) -> Explanation:
    """Every part of the score; z-scores are standard deviations above the scope's mean."""
    parts = place.parts
    values: Explanation = {
        "dense_similarity": parts.dense_similarity,
        "dense_z_score": parts.dense_z_score,
        "dense_weight": parts.weights.dense,
        "lexical_score": parts.lexical_score,
        "lexical_z_score": parts.lexical_z_score,
        "lexical_weight": parts.weights.lexical,
        "context_z_score": parts.context_z_score,
        "context_weight": parts.weights.context,
        "speaker": parts.speaker,
        "time": parts.time,
        "session_z_score": parts.session,
        "session_share": ADDITIONS.session,
        "relation_gain": parts.relation,
        "z_score": parts.z_score,
        **_of_relations(place.block, layout, related),
        "coverage": float(layout.words_of(place.block)[0].max()),
        "passage": int(layout.ordinals[place.passage]),
    }
    return {_WIRE_NAMES.get(name, name): value for name, value in values.items()}


def _of_relations(block: int, layout: ScopeLayout, related: Related) -> Explanation:
    """The relation that lifts the block, and the blocks folded into it, if any."""
    explanation: dict[str, str] = {}
    if (lift := related.lifts.get(block)) is not None:
        explanation |= {"relation": lift.type, "relation_to": str(layout.block_id(lift.by))}
    if same := related.folded.get(block):
        explanation["folded"] = " ".join(str(layout.block_id(one)) for one in same)
    return explanation
