"""What a question's words find in a snapshot: all that needs no vector, while it has none yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from luma_memory.domain.search import Selection
from luma_memory.pipeline.recall.events import query_events
from luma_memory.pipeline.recall.request import Question, SearchRequest
from luma_memory.pipeline.recall.scope_layout import (
    ScopeLayout,
    ScoringRequest,
    WordLayout,
    lay_out_words,
)
from luma_memory.pipeline.recall.snapshots import Current, Snapshots
from luma_memory.pipeline.text.words import ANALYZER

# The words of more rows are looked up in a thread: of 30,000 they take 0.3 ms.
_INLINE_ROWS_MAX: Final = 30_000


@dataclass(frozen=True, slots=True)
class WordsOfSnapshot:
    """A snapshot laid out for a question that has no vector yet."""

    current: Current
    words: WordLayout

    async def layout(self, vector: Sequence[float], *, inline_rows_max: int) -> ScopeLayout:
        """The whole layout. The product of more rows is computed in a thread: it releases the
        interpreter's lock."""
        if self.current.snapshot.row_count <= inline_rows_max:
            return self.words.with_vectors(self.current.similarities(vector))
        similarities = await asyncio.to_thread(self.current.similarities, vector)
        return self.words.with_vectors(similarities)


async def words_of_snapshot(
    snapshots: Snapshots, request: SearchRequest, question: Question, model: str
) -> WordsOfSnapshot | None:
    """None if the search has to scan the scope. Raises StoreUnavailable."""
    names = [*question.named, *question.own]
    selection = Selection(request.as_of, request.include_superseded, request.filters, request.items)
    current = await snapshots.current(request.scope, model, names, selection)
    if current is None:
        return None
    with_own = request.ranking != "fused"
    if current.snapshot.row_count <= _INLINE_ROWS_MAX:
        return WordsOfSnapshot(current, _words(current, question, with_own))
    words = await asyncio.to_thread(_words, current, question, with_own)
    return WordsOfSnapshot(current, words)


def scoring_of(question: Question, name_keys: Sequence[int]) -> ScoringRequest:
    """name_keys: of the names in the question, then of the user's own."""
    named = len(question.named)
    return ScoringRequest(
        named=name_keys[:named],
        own=name_keys[named:],
        spans=question.spans,
        events=query_events(question.events, question.terms),
        time_words=frozenset(
            term for span in question.spans for term in ANALYZER.terms(span.named_by)
        ),
    )


def _words(current: Current, question: Question, with_own: bool) -> WordLayout:
    rows = current.matched([term.index for term in question.terms])
    scoring = scoring_of(question, rows.name_keys)
    return lay_out_words(rows, question.terms, scoring, with_own=with_own)
