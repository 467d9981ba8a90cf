"""How much evidence a context holds, and in how many tokens: a fixed number of blocks beside the
number that follows the ranking, without a budget and within some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from statistics import fmean
from typing import Final
from uuid import UUID

from benchmarks.quality.questions import AS_BUILT as RANKED_AS_BUILT
from benchmarks.quality.questions import QuestionSet, Ranked, ranked
from benchmarks.quality.scopes import AS_BUILT as STORED_AS_BUILT
from luma_memory.domain.context import ContextBlock
from luma_memory.pipeline.context.context_text import fit
from luma_memory.pipeline.recall.block_count import block_count
from luma_memory.providers.tokens import EstimatedTokens, estimated_tokens

Count = Callable[[Sequence[float]], int]  # of blocks, from their descending z-scores
_USUAL: Final = 10
_DAY: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def _fixed(_z_scores: Sequence[float], *, count: int) -> int:
    return count


def _share(z_scores: Sequence[float], *, share: float, fewest: int) -> int:
    within = sum(value >= share * z_scores[0] for value in z_scores)
    return min(max(within, fewest), 2 * _USUAL)


def _as_built(z_scores: Sequence[float]) -> int:
    return block_count(z_scores, _USUAL)


COUNTS: Final[Mapping[str, Count]] = {
    **{str(count): partial(_fixed, count=count) for count in (5, 7, 8, 9, 10, 11, 12, 13, 15, 20)},
    **{
        f"above {share} of the best z-score, {fewest} to 20": partial(
            _share, share=share, fewest=fewest
        )
        for share in (0.55, 0.6, 0.65, 0.7)
        for fewest in (5, 8)
    },
}
BUDGETS: Final = (400, 800, 2_000, 4_000, 8_000)


async def budget_table(sets: Sequence[QuestionSet]) -> str:
    """Evidence recall, tokens and blocks per question: by count alone, then within budgets."""
    titles = " | ".join(f"{questions.name}: recall | tokens | blocks" for questions in sets)
    lines = [f"| Blocks | {titles} |", "|---|" + "---|---|---|" * len(sets)]
    rankings = [await ranked(questions, STORED_AS_BUILT, RANKED_AS_BUILT) for questions in sets]
    for name, count in COUNTS.items():
        cells = [cell for ranking in rankings for cell in _alone(ranking, count)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| Budget, blocks | {titles} |", lines[1]]
    for budget in BUDGETS:
        for name, count in (("ten", COUNTS[str(_USUAL)]), ("by the ranking", _as_built)):
            cells = [cell for ranking in rankings for cell in await _within(ranking, count, budget)]
            lines.append(f"| {budget:,}, {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _alone(ranking: Sequence[Ranked], count: Count) -> Sequence[str]:
    figures = []
    for entry in ranking:
        kept = _kept(entry, count)
        tokens = sum(estimated_tokens(entry.blocks[place].content) for place in kept)
        figures.append((_recall(entry, kept), tokens, len(kept)))
    return _cells(figures)


async def _within(ranking: Sequence[Ranked], count: Count, budget: int) -> Sequence[str]:
    """As the service fits blocks into a budget; a cut block counts as found."""
    figures = []
    for entry in ranking:
        blocks = [_context_block(entry, place) for place in _kept(entry, count)]
        fitted = await fit(blocks, entry.query.text, token_budget=budget, tokens=EstimatedTokens())
        kept = [block.id.int - 1 for block in fitted.blocks]
        figures.append((_recall(entry, kept), fitted.token_count, len(kept)))
    return _cells(figures)


def _kept(entry: Ranked, count: Count) -> Sequence[int]:
    return range(min(count([block.z_score for block in entry.blocks]), len(entry.blocks)))


def _recall(entry: Ranked, kept: Sequence[int]) -> float:
    evidence = set(entry.query.evidence)
    return len(evidence & {entry.blocks[place].item_id for place in kept}) / len(evidence)


def _context_block(entry: Ranked, place: int) -> ContextBlock:
    return ContextBlock(
        id=UUID(int=place + 1),
        content=entry.blocks[place].content,
        is_cut=False,
        score=0.0,
        relevance=0.0,
        occurred_at=_DAY,
        speaker="speaker",
        session_id=None,
        source=None,
        title=None,
    )


def _cells(figures: Sequence[tuple[float, int, int]]) -> Sequence[str]:
    found, tokens, counts = zip(*figures, strict=True)
    return [f"{fmean(found):.3f}", f"{fmean(tokens):,.0f}", f"{fmean(counts):.1f}"]
