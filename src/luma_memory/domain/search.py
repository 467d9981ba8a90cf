"""The inputs and results of recall."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias
from uuid import UUID

from luma_memory.domain.block import Block
from luma_memory.domain.filters import Filter
from luma_memory.domain.item_filters import ItemFilter

Explanation: TypeAlias = Mapping[str, float | int | str | None]
# "fused" is the ranking of recall; the others serve for comparison.
Ranking = Literal["fused", "dense", "lexical", "reciprocal"]

# The ordinal of a row that is not a passage: it has the vector of a window of turns that ends with
# its block (see pipeline.windows).
WINDOW_ORDINAL = -1


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """Instants from `start` on, before `stop`; both aware."""

    start: datetime
    stop: datetime
    # The question names nothing else ("What did I do yesterday?"), so that the time alone
    # makes a block relevant.
    is_whole_question: bool = False
    named_by: str = ""  # the part of the text that names it: "the 25th"


@dataclass(frozen=True, slots=True)
class NamedEvent:
    """A time given by an event: "before the move"."""

    side: Literal["before", "after"]
    text: str  # "the move"


@dataclass(frozen=True, slots=True)
class Calibration:
    """The distribution of a model's cosines between questions and unrelated texts."""

    mean: float
    deviation: float  # > 0


@dataclass(frozen=True, slots=True)
class ItemSelection:
    """Which items take part in a search."""

    prefix: Sequence[str] = ()  # the first labels of their namespaces
    is_exact: bool = False  # the prefix is the whole namespace
    filter: ItemFilter | None = None
    with_blocks: bool = False  # blocks that are no items take part too, and all items do


EVERY_ITEM = ItemSelection(with_blocks=True)

# Which rows of a scope a search reads.
RowKind = Literal["blocks", "items", "all"]


def row_kind(items: ItemSelection | None) -> RowKind:
    """items: as in `ScanRequest`."""
    if items is None:
        return "blocks"
    return "all" if items.with_blocks else "items"


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """The inputs for scoring every row of a scope."""

    vector: array[float] | None  # of the question; None for a lexical search
    embedding_model: str | None
    terms: Sequence[bytes]  # one sparsevec in binary form a query term, weight 1 at its index
    all_terms: bytes  # the sum of the terms' vectors
    names: Sequence[str] = ()  # names whose keys the result contains
    as_of: datetime | None = None  # None is now
    include_superseded: bool = False
    filters: Filter | None = None
    items: ItemSelection | None = None  # None leaves all items out


@dataclass(frozen=True, slots=True)
class ScopeScan:
    """Raw scores of every passage and window of a scope; all columns in one and the same order."""

    block_ids: bytes  # 16 bytes a row
    ordinals: array[int]  # 'i', passage number within its block, or WINDOW_ORDINAL
    sessions: array[int]  # 'q', a hash of the session's name; 0 without one
    instants: array[int]  # 'q', occurred_at in microseconds since 2000-01-01 UTC
    speakers: array[int]  # 'q', see memory_speaker_key; 0 where unknown
    dense: array[float]  # 'f', cosine in [-1, 1]; NaN where no vector of the model is stored
    term_weights: Sequence[array[float]]  # 'f', one column a query term; 0 where it is absent
    name_keys: array[int]  # 'i', one per requested name

    @property
    def row_count(self) -> int:
        return len(self.ordinals)


# An instant that never comes, in microseconds.
NEVER = 2**63 - 1
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL's


def microseconds(instant: datetime) -> int:
    """Since 2000-01-01 UTC, as PostgreSQL counts."""
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@dataclass(frozen=True, slots=True)
class Selection:
    """Which blocks of a scope take part in a search."""

    as_of: datetime | None = None  # the scope as it was then, by the blocks' own times; None: now
    include_superseded: bool = False
    filters: Filter | None = None
    items: ItemSelection | None = None  # None leaves all items out

    @property
    def kind(self) -> RowKind:
        return row_kind(self.items)

    @property
    def is_current(self) -> bool:
        """Whether it is of now, without filters and superseded blocks."""
        return (
            self.as_of is None
            and not self.include_superseded
            and self.filters is None
            and self.item_filter is None
        )

    @property
    def namespace(self) -> ItemSelection | None:
        """Which namespaces are read, where they are not all."""
        items = self.items
        return None if items is None or items.with_blocks or not items.prefix else items

    @property
    def item_filter(self) -> ItemSelection | None:
        """Which items are read, where that depends on their values."""
        items = self.items
        return None if items is None or items.with_blocks or not items.filter else items


EVERY_BLOCK = Selection()


def every_row(kind: RowKind) -> Selection:
    """All current rows of a kind."""
    match kind:
        case "blocks":
            return EVERY_BLOCK
        case "items":
            return Selection(items=ItemSelection())
        case "all":
            return Selection(items=EVERY_ITEM)


@dataclass(frozen=True, slots=True)
class ScopeRows:
    """Passages and windows as they are stored; columns in one order, numbers in native form."""

    block_ids: bytes  # 16 bytes a row
    ordinals: array[int]  # 'i', see ScopeScan, as are the next three
    sessions: array[int]  # 'q'
    instants: array[int]  # 'q'
    speakers: array[int]  # 'q'
    expiries: array[int]  # 'q', microseconds since 2000-01-01 UTC; NEVER for none
    superseded_from: array[int]  # 'q', since when the row's block is superseded; NEVER: it is not
    has_vector: bytes  # one byte a row, 1 where a vector of the model is stored
    vectors: bytes  # those vectors one after the other, as 16-bit floats
    term_counts: array[int]  # 'i', distinct terms of each row
    term_indices: array[int]  # 'i', 1.. as QueryTerm.index, the rows' terms one after the other
    term_weights: array[float]  # 'f'
    # The namespace of each row's block as JSON, `null` for none; empty if the rows are no items.
    namespaces: Sequence[str] = ()

    @property
    def row_count(self) -> int:
        return len(self.ordinals)


@dataclass(frozen=True, slots=True)
class ScopeMark:
    """The scope state of a snapshot. Equal marks: nothing that search reads has changed."""

    version: int
    moved_at: datetime | None  # time of the last switch to another model's vectors


@dataclass(frozen=True, slots=True)
class ScopeChanges:
    """What has changed since a mark, by an unbroken chain of log entries."""

    block_ids: frozenset[bytes]  # 16 bytes each; all their older rows are obsolete
    rows: ScopeRows  # the current rows of these blocks


@dataclass(frozen=True, slots=True)
class LookUp:
    """A scope's state at one moment."""

    mark: ScopeMark
    read_at: int  # by the database's clock, in microseconds since 2000-01-01 UTC
    name_keys: array[int]  # 'i', one per requested name
    # None: the chain is broken, or there are more changes than one result holds.
    changes: ScopeChanges | None
    matching: bytes | None = None  # ids of the blocks that match the filters, where there are any


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A hit of a search."""

    block: Block
    score: float  # 0..1; only for ranking
    # 0..1; whether the block is about the question at all, comparable between embedding models.
    relevance: float = 0.0
    # Every part of the score by name; filled only on request.
    explanation: Explanation = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankedIds:
    """Ids of blocks with their scores, best first."""

    ranked: Sequence[tuple[UUID, float]]
    degraded: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Blocks, best first, and how they were found."""

    hits: Sequence[SearchHit]
    # Whether any hit reaches the installation's relevance threshold. False: nothing relevant is
    # stored.
    is_relevant: bool = False
    degraded: Sequence[str] = ()  # skipped stages: "embedding", "calibration", "relations" …
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # by stage
    # Whether the question names a time, such as "last week": the result then depends on the day.
    names_times: bool = False
