"""The ranking of a scope's blocks for one question, with the explanation of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from luma_memory.domain.search import Calibration, Explanation, Ranking
from luma_memory.pipeline.recall.baselines import rank_dense, rank_lexical, rank_reciprocal
from luma_memory.pipeline.recall.fusion import (
    ADDITIONS,
    Fusion,
    RankedBlock,
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
    z_score: float  # in deviations; for a baseline the score
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

    def of(self, layout: ScopeLayout, blocks: Sequence[int]) -> Sequence[Relevance]:
        """The relevance of each block's best passage: computed together, in a few arrays."""
        at = np.array(blocks, dtype=np.intp)
        words = layout.words_of(at)
        unknown = np.repeat(words.unknown, words.sizes)
        alone = word_relevance(words.shares, unknown=unknown, by_pairs=self.by_pairs)
        together = alone
        if self.is_legible:
            dense = layout.scores.dense[words.passages]
            together = relevance(dense, words.shares, self.calibration, unknown=unknown)
        proven = layout.are_proven_by_time(at)
        columns = [
            np.where(proven, RELEVANCE_BY_TIME, words.best(each)).tolist()
            for each in (together, alone)
        ]
        return [
            Relevance(*row) for row in zip(*columns, words.best(words.shares).tolist(), strict=True)
        ]


class Relevance(NamedTuple):
    """Of one block, by its best passage; all 0..1."""

    together: float  # by cosine and words
    by_words: float  # if the embedding model cannot read the block's text
    share: float  # of the question's words


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

    if isinstance(by, Fusion):
        related = with_relations(by, links, limit=limit) if links else Related(by.best(limit))
        ranked = related.ranked
        relevances = scale.of(layout, [found.block for found in ranked])
        return [
            Place(
                found.block,
                found.score,
                found.parts.z_score,
                of_block.together,
                of_block.by_words,
                int(layout.ordinals[found.passage]),
                _explanation(found, layout, related, of_block.share) if explain else {},
            )
            for found, of_block in zip(ranked, relevances, strict=True)
        ]
    rank = {"dense": rank_dense, "lexical": rank_lexical, "reciprocal": rank_reciprocal}[by]
    blocks = rank(layout.scores, limit=limit)
    # Baselines only rank: scores decrease from 1 and are not comparable with others.
    return [
        Place(
            block,
            1.0 / number,
            1.0 / number,
            of_block.together,
            of_block.by_words,
            0,
            {"rank": number} if explain else {},
        )
        for number, (block, of_block) in enumerate(
            zip(blocks, scale.of(layout, blocks), strict=True), start=1
        )
    ]


def _explanation(
    place: RankedBlock, layout: ScopeLayout, related: Related, share: float
) -> Explanation:
    """Every part of the score; z-scores are standard deviations above the scope's mean.

    share: of the question's words.
    """
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
        "coverage": share,
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
