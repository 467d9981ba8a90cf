"""Times told by an event: "before the move" means before the block that tells of it.

The event is found by its words alone, in the columns the scan brings anyhow: no further question is
embedded, and no further statement runs. Blocks say when something was told, which for an event of
a life is mostly the day it happened or soon after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import NamedEvent
from luma_memory.pipeline.text.terms import QueryTerm, idf
from luma_memory.pipeline.text.words import ANALYZER

# Of what the event's words weigh, a block that tells of it has so much.
COVERAGE_MIN: Final = 0.6

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QueryEvent:
    """An event by the numbers of its words (QueryTerm.word)."""

    is_before: bool
    words: frozenset[int]


def query_events(events: Sequence[NamedEvent], terms: Sequence[QueryTerm]) -> Sequence[QueryEvent]:
    """Events by the words of the question they are part of; one without a telling word is none."""
    numbers = {term.term: term.word for term in terms}
    found = []
    for event in events:
        words = frozenset(numbers[term] for term in ANALYZER.terms(event.text) if term in numbers)
        if words:
            found.append(QueryEvent(event.side == "before", words))
    return found


def fitting(
    events: Sequence[QueryEvent],
    words: Sequence[tuple[QueryTerm, Weights]],
    block: npt.NDArray[np.intp],
    instants: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """[m] which blocks lie on the side of an event that is meant, its own block on the later one.

    words: each word's weight in the n passages. block: [n] the passages' blocks. instants: [m].
    An event that no block tells of says nothing.
    """
    fits = np.zeros(len(instants), dtype=bool)
    for event in events:
        if (at := _instant(event, words, block, instants)) is not None:
            fits |= instants < at if event.is_before else instants >= at
    return fits


def _instant(
    event: QueryEvent,
    words: Sequence[tuple[QueryTerm, Weights]],
    block: npt.NDArray[np.intp],
    instants: npt.NDArray[np.int64],
) -> int | None:
    """When the block that tells most of the event was said; the first of equal ones."""
    score = np.zeros(len(block), dtype=np.float32)
    covered = np.zeros(len(block), dtype=np.float32)
    whole = 0.0
    for term, weights in words:
        if term.word not in event.words:
            continue
        telling = idf(int(np.count_nonzero(weights)), len(block))
        whole += telling
        score += weights * np.float32(telling)
        covered += (weights > 0) * np.float32(telling)
    score[covered < COVERAGE_MIN * whole] = 0.0
    best = score.max(initial=0.0)
    if best <= 0.0:
        return None
    return int(instants[block[score == best]].min())
