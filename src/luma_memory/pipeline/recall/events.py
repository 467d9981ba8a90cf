"""Times given by an event: "before the move" means before the block that mentions the move.

The event is found by its terms alone, in the columns that the scan returns in any case: no other
text is embedded and no other statement runs. A block's time is when it was written, which for
personal events is usually the day they happened or soon after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import NamedEvent
from luma_memory.pipeline.recall.postings import Posting
from luma_memory.pipeline.text.terms import QueryTerm, idf
from luma_memory.pipeline.text.words import ANALYZER

# Share of the event's term weights that a block needs to count as mentioning it.
COVERAGE_MIN: Final = 0.6


@dataclass(frozen=True, slots=True)
class QueryEvent:
    """An event by the numbers of its words (QueryTerm.word)."""

    is_before: bool
    words: frozenset[int]


def query_events(events: Sequence[NamedEvent], terms: Sequence[QueryTerm]) -> Sequence[QueryEvent]:
    """Events by their terms in the question; an event without any term is dropped."""
    numbers = {term.term: term.word for term in terms}
    found = []
    for event in events:
        words = frozenset(numbers[term] for term in ANALYZER.terms(event.text) if term in numbers)
        if words:
            found.append(QueryEvent(event.side == "before", words))
    return found


def fitting(
    events: Sequence[QueryEvent],
    words: Sequence[tuple[QueryTerm, Posting]],
    block: npt.NDArray[np.intp],
    instants: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """[m] whether each block is on the requested side of an event; its own block counts as after.

    words: each word with the passages that have it. block: [n] the passages' blocks. instants: [m].
    An event that no block mentions has no effect.
    """
    fits = np.zeros(len(instants), dtype=bool)
    for event in events:
        if (at := _instant(event, words, block, instants)) is not None:
            fits |= instants < at if event.is_before else instants >= at
    return fits


def _instant(
    event: QueryEvent,
    words: Sequence[tuple[QueryTerm, Posting]],
    block: npt.NDArray[np.intp],
    instants: npt.NDArray[np.int64],
) -> int | None:
    """The time of the block that matches the event best; the first of equal ones."""
    score = np.zeros(len(block), dtype=np.float32)
    covered = np.zeros(len(block), dtype=np.float32)
    whole = 0.0
    for term, posting in words:
        if term.word not in event.words:
            continue
        term_idf = idf(posting.frequency, len(block))
        whole += term_idf
        score[posting.passages] += posting.weights * np.float32(term_idf)
        covered[posting.passages] += np.float32(term_idf)
    score[covered < COVERAGE_MIN * whole] = 0.0
    best = score.max(initial=0.0)
    if best <= 0.0:
        return None
    return int(instants[block[score == best]].min())
