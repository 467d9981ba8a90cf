"""The text a reranker reads of each candidate, and the order by its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from luma_memory.domain.search import SearchHit
from luma_memory.pipeline.ingest.indexing import spoken
from luma_memory.pipeline.ingest.passages import split_passages

CANDIDATES_MAX: Final = 50


def candidate_text(hit: SearchHit, passage: int) -> str:
    """The block's best passage, with its speaker.

    passage: its ordinal; a block edited since it was ranked may have fewer: then the last.
    """
    content = hit.block.content
    passages = split_passages(content)
    chosen = passages[min(passage, len(passages) - 1)]
    return spoken(content[chosen.start : chosen.stop], speaker=hit.block.speaker)


def reordered(hits: Sequence[SearchHit], scores: Sequence[float]) -> list[SearchHit]:
    """The first len(scores) hits by those scores, best first, followed by the others.

    Equals keep their order. The hits' own scores (0..1, descending) stay with the positions: they
    remain comparable with other searches, whatever the reranker's scale.
    """
    places = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    order = [*places, *range(len(scores), len(hits))]
    return [
        replace(
            hits[found],
            score=hits[place].score,
            explanation={**hits[found].explanation, "rerank_score": scores[found]}
            if hits[found].explanation and found < len(scores)
            else hits[found].explanation,
        )
        for place, found in enumerate(order)
    ]
