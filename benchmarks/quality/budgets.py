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
from luma_memory.pipeline.recall.block_count import chosen_blocks
from luma_memory.providers.tokens import EstimatedTokens, estimated_tokens

# Places of the blocks to take, from their descending z-scores and their lengths.
Choice = Callable[[Sequence[float], Sequence[int]], Sequence[int]]
_Figures = tuple[float, int, int]  # of a question: recall, tokens, blocks
_USUAL: Final = 10
_DAY: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def _fixed(z_scores: Sequence[float], _lengths: Sequence[int], *, count: int) -> Sequence[int]:
    return range(min(count, len(z_scores)))


def _share(
    z_scores: Sequence[float], _lengths: Sequence[int], *, share: float, fewest: int
) -> Sequence[int]:
    within = sum(value >= share * z_scores[0] for value in z_scores)
    return range(min(max(within, fewest), 2 * _USUAL, len(z_scores)))


def _by_length(
    z_scores: Sequence[float], lengths: Sequence[int], *, exponent: float
) -> Sequence[int]:
    return chosen_blocks(z_scores, lengths, _USUAL, length_exponent=exponent)


def _as_built(z_scores: Sequence[float], lengths: Sequence[int]) -> Sequence[int]:
    return chosen_blocks(z_scores, lengths, _USUAL)


BY_LENGTH: Final[Mapping[str, Choice]] = {
    f"by length, exponent {exponent}": partial(_by_length, exponent=exponent)
    for exponent in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
}
CHOICES: Final[Mapping[str, Choice]] = {
    **{str(count): partial(_fixed, count=count) for count in (5, 7, 8, 9, 10, 11, 12, 13, 15, 20)},
    **{
        f"above {share} of the best z-score, {fewest} to 20": partial(
            _share, share=share, fewest=fewest
        )
        for share in (0.55, 0.6, 0.65, 0.7)
        for fewest in (5, 8)
    },
    **BY_LENGTH,
}
BUDGETS: Final = (400, 800, 2_000, 4_000, 8_000)


async def budget_table(sets: Sequence[QuestionSet]) -> str:
    """Evidence recall, tokens and blocks per question: without a budget, then within budgets."""
    titles = " | ".join(
        f"{questions.name}: recall | tokens | recall per 1,000 tokens | blocks"
        for questions in sets
    )
    lines = [f"| Blocks | {titles} |", "|---|" + "---|---|---|---|" * len(sets)]
    rankings = [await ranked(questions, STORED_AS_BUILT, RANKED_AS_BUILT) for questions in sets]
    for name, choice in CHOICES.items():
        cells = [cell for ranking in rankings for cell in _cells(_alone(ranking, choice))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| | {titles} |", lines[1], *_left_out(rankings)]
    lines += ["", f"| Budget, blocks | {titles} |", lines[1]]
    for budget in BUDGETS:
        for name, choice in (("ten", CHOICES[str(_USUAL)]), ("by the ranking", _as_built)):
            figures = [await _within(ranking, choice, budget) for ranking in rankings]
            cells = [cell for some in figures for cell in _cells(some)]
            lines.append(f"| {budget:,}, {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _left_out(rankings: Sequence[Sequence[Ranked]]) -> Sequence[str]:
    """Ten, the share alone, and the exponent that is best on all conversations but the judged."""
    found: list[list[_Figures]] = []
    for number, ranking in enumerate(rankings):
        judged: list[_Figures] = []
        for chat in sorted({entry.chat for entry in ranking}):
            others = [
                [entry for entry in some if (place, entry.chat) != (number, chat)]
                for place, some in enumerate(rankings)
            ]
            best = max(BY_LENGTH.values(), key=lambda choice: _per_token(others, choice))
            judged += _alone([entry for entry in ranking if entry.chat == chat], best)
        found.append(judged)
    rows: Mapping[str, Sequence[Sequence[_Figures]]] = {
        "ten": [_alone(ranking, CHOICES[str(_USUAL)]) for ranking in rankings],
        "exponent left out": found,
    }
    return [
        f"| {name} | {' | '.join(cell for some in figures for cell in _cells(some))} |"
        for name, figures in rows.items()
    ]


def _per_token(rankings: Sequence[Sequence[Ranked]], choice: Choice) -> float:
    """Recall per token beside that of ten blocks, of all sets; worse than any if it finds less."""
    total = 0.0
    for ranking in filter(None, rankings):
        found, tokens = _means(_alone(ranking, choice))
        usual, usual_tokens = _means(_alone(ranking, CHOICES[str(_USUAL)]))
        if found < usual - 1e-9:
            return found - usual - len(rankings)
        total += found / tokens / (usual / usual_tokens)
    return total


def _means(figures: Sequence[_Figures]) -> tuple[float, float]:
    return fmean(found for found, _, _ in figures), fmean(tokens for _, tokens, _ in figures)


def _alone(ranking: Sequence[Ranked], choice: Choice) -> Sequence[_Figures]:
    figures = []
    for entry in ranking:
        kept = _kept(entry, choice)
        tokens = sum(estimated_tokens(entry.blocks[place].content) for place in kept)
        figures.append((_recall(entry, kept), tokens, len(kept)))
    return figures


async def _within(ranking: Sequence[Ranked], choice: Choice, budget: int) -> Sequence[_Figures]:
    """As the service fits blocks into a budget; a cut block counts as found."""
    figures = []
    for entry in ranking:
        blocks = [_context_block(entry, place) for place in _kept(entry, choice)]
        fitted = await fit(blocks, entry.query.text, token_budget=budget, tokens=EstimatedTokens())
        kept = [block.id.int - 1 for block in fitted.blocks]
        figures.append((_recall(entry, kept), fitted.token_count, len(kept)))
    return figures


def _kept(entry: Ranked, choice: Choice) -> Sequence[int]:
    return choice(
        [block.z_score for block in entry.blocks], [len(block.content) for block in entry.blocks]
    )


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


def _cells(figures: Sequence[_Figures]) -> Sequence[str]:
    found, tokens, counts = zip(*figures, strict=True)
    per_1000 = 1_000 * fmean(found) / fmean(tokens)
    return [
        f"{fmean(found):.3f}", f"{fmean(tokens):,.0f}", f"{per_1000:.3f}", f"{fmean(counts):.1f}",
    ]  # fmt: skip
