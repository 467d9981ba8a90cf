"""The ranking with each of its parts taken away once, and the share of names for "I"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.quality.questions import AS_BUILT as RANKED_AS_BUILT
from benchmarks.quality.questions import QuestionSet, Ranking, quality, ranked
from benchmarks.quality.scopes import AS_BUILT as STORED_AS_BUILT
from benchmarks.quality.scopes import Indexing, as_written
from luma_memory.pipeline.recall.fusion import ADDITIONS, WEIGHTS
from luma_memory.pipeline.text.terms import TermWeighting

# A weight must be above 0.
_ALMOST_NONE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Variant:
    """How blocks are stored, and how they are ranked."""

    indexing: Indexing = STORED_AS_BUILT
    ranking: Ranking = RANKED_AS_BUILT


VARIANTS: Final[Mapping[str, Variant]] = {
    "as built": Variant(),
    '"you" as the assistant': Variant(ranking=replace(RANKED_AS_BUILT, you_is_assistant=False)),
    'names for "I"': Variant(Indexing(named=as_written)),
    "windows of turns": Variant(
        ranking=replace(RANKED_AS_BUILT, weights=replace(WEIGHTS, context=_ALMOST_NONE))
    ),
    "term weights from neighboring turns": Variant(
        ranking=replace(RANKED_AS_BUILT, borrows_terms=False)
    ),
    "speaker": Variant(ranking=replace(RANKED_AS_BUILT, additions=replace(ADDITIONS, speaker=0.0))),
    "session": Variant(ranking=replace(RANKED_AS_BUILT, additions=replace(ADDITIONS, session=0.0))),
    "times and events in the query": Variant(
        ranking=replace(RANKED_AS_BUILT, additions=replace(ADDITIONS, time=0.0))
    ),
    "the block's day as terms": Variant(Indexing(has_days=False)),
    "low saturation (k1 1.2, b 0.75 instead)": Variant(
        Indexing(weighting=TermWeighting(k1=1.2, b=0.75))
    ),
    "windows stored, but disabled (context estimated)": Variant(Indexing(has_windows=False)),
    "terms": Variant(
        ranking=replace(RANKED_AS_BUILT, weights=replace(WEIGHTS, lexical=_ALMOST_NONE))
    ),
    "vectors of blocks": Variant(
        ranking=replace(RANKED_AS_BUILT, weights=replace(WEIGHTS, dense=_ALMOST_NONE))
    ),
}


async def ablation_table(sets: Sequence[QuestionSet]) -> str:
    """recall@5, recall@10 and nDCG@10 of each set without one part at a time."""
    titles = [f"{questions.name}: recall@5 | recall@10 | nDCG@10" for questions in sets]
    lines = [
        f"| Without | {' | '.join(titles)} |",
        "|---|" + "---|---|---|" * len(sets),
    ]
    for name, variant in VARIANTS.items():
        figures = [
            figure
            for questions in sets
            for figure in quality(await ranked(questions, variant.indexing, variant.ranking))
        ]
        lines.append(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    return "\n".join(lines)
