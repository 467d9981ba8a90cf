"""Weights chosen on all conversations but one, and judged on that one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from benchmarks.quality.questions import AS_BUILT as RANKED_AS_BUILT
from benchmarks.quality.questions import Quality, QuestionSet, Ranked, Ranking, quality, ranked
from benchmarks.quality.scopes import AS_BUILT as STORED_AS_BUILT
from luma_memory.pipeline.recall.fusion import Additions, FusionWeights

COMBINATIONS: Final = 100
_SEED: Final = 7


def _combinations() -> Sequence[Ranking]:
    dice = random.Random(_SEED)
    drawn = [
        Ranking(
            weights=FusionWeights(lexical=dice.uniform(0.5, 0.9), context=dice.uniform(0.3, 0.8)),
            additions=Additions(
                speaker=dice.uniform(0.5, 1.3),
                time=dice.uniform(0.2, 0.8),
                session=dice.uniform(0.3, 0.7),
            ),
        )
        for _ in range(COMBINATIONS)
    ]
    return [RANKED_AS_BUILT, *drawn]


async def left_out_table(sets: Sequence[QuestionSet]) -> str:
    """As built, beside the best combination of the other conversations for each one."""
    # By combination, then by set: the questions.
    results = [
        [await ranked(questions, STORED_AS_BUILT, combination) for questions in sets]
        for combination in _combinations()
    ]
    lines = [
        "| | recall@5 | recall@10 | nDCG@10 | recall@10 of all combinations |",
        "|---|---|---|---|---|",
    ]
    for number, questions in enumerate(sets):
        chosen: list[Ranked] = []
        for chat in range(len(questions.chats)):
            best = max(results, key=lambda result: _elsewhere(result, number, chat))
            chosen += [entry for entry in best[number] if entry.chat == chat]
        reached = [quality(result[number]).recall_10 for result in results]
        span = f"{min(reached):.3f} to {max(reached):.3f}"
        lines += [
            _line(f"{questions.name}, one left out", quality(chosen), ""),
            _line(f"{questions.name}, as built", quality(results[0][number]), span),
        ]
    return "\n".join(lines)


def _elsewhere(result: Sequence[Sequence[Ranked]], left_set: int, left_chat: int) -> float:
    """The three figures together on all other conversations, each set with the same weight."""
    figures = []
    for number, entries in enumerate(result):
        kept = [entry for entry in entries if (number, entry.chat) != (left_set, left_chat)]
        if kept:
            figures.append(fmean(quality(kept)))
    return fmean(figures)


def _line(name: str, of: Quality, span: str) -> str:
    return f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in of) + f" | {span} |"
