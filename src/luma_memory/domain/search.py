"""What recall reads and answers."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from luma_memory.domain.block import Block


@dataclass(frozen=True, slots=True)
class ScopeScan:
    """Raw scores of every passage of a scope; all columns in one and the same order."""

    block_ids: bytes  # 16 bytes a passage
    ordinals: array[int]  # 'i', passage number within its block
    dense: array[float]  # 'f', cosine in [-1, 1]; NaN where no vector of the model is stored
    term_weights: Sequence[array[float]]  # 'f', one column a query term; 0 where it is absent

    @property
    def passage_count(self) -> int:
        return len(self.ordinals)


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One block that answers a question."""

    block: Block
    score: float  # 0..1
    # Every part of the score by name; filled only when asked for.
    explanation: Mapping[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Blocks, best first, and how they came about."""

    hits: Sequence[SearchHit]
    degraded: Sequence[str] = ()  # what was left out: "embedding"
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # by stage
