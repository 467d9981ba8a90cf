"""A search request, and what a question names besides its subject: times, speakers, events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from luma_memory.domain.filters import Filter
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ItemSelection, NamedEvent, Ranking, TimeSpan
from luma_memory.pipeline.text.terms import QueryTerm, TermVector


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """One search over one scope."""

    scope: Scope
    query: str
    limit: int  # >= 1
    # Somewhat more blocks where the ranking is flat, fewer where it is steep; see `block_count`.
    is_flexible: bool = False
    filters: Filter | None = None  # excluded blocks do not take part in the ranking either
    as_of: datetime | None = None  # the scope as it was then, by the blocks' own times; None: now
    include_superseded: bool = False
    items: ItemSelection | None = None  # None: blocks only
    timeout_ms: int | None = None
    ranking: Ranking = "fused"
    relevant_only: bool = False  # only those of the `limit` blocks that reach the threshold
    use_relations: bool = True  # False ignores relations in the ranking
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A query after parsing, before the search."""

    terms: Sequence[QueryTerm]
    named: Sequence[str]  # possible names of speakers
    own: Sequence[str]  # the user's own names
    language: str | None = None  # ISO 639-1, None if undetermined
    spans: Sequence[TimeSpan] = ()
    events: Sequence[NamedEvent] = ()


def one_hot(terms: Sequence[QueryTerm]) -> bytes:
    """A sparse vector with weight 1 at the index of each term, in binary form."""
    indices = sorted({term.index for term in terms})
    return TermVector(indices, [1.0] * len(indices)).to_binary()
