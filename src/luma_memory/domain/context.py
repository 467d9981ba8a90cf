"""A question's context: the blocks that matter, and a text that can be put into a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.scope import Scope

# What a context can lack.
DATABASE = "database"  # served from the cache unchecked: PostgreSQL did not respond
SYNTHESIS = "synthesis"  # written by the template: the model failed, timed out or cited wrongly
TOKEN_BUDGET = "token_budget"  # noqa: S105 - no secret; blocks were cut or left out


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """A validated request with its defaults filled in."""

    scope: Scope
    query: str
    blocks_max: int
    token_budget: int  # of the whole text
    synthesize: bool
    timeout_seconds: float
    relevant_only: bool = False  # leave out what does not reach the threshold
    include_items: bool = False
    # Take somewhat more than `blocks_max` where the ranking is flat, and fewer where it is steep.
    is_flexible: bool = False
    is_probe: bool = False  # a health probe: not counted in the hit rate


@dataclass(frozen=True, slots=True)
class ContextBlock:
    """A chosen block as far as it is part of the context."""

    id: UUID
    content: str  # all of it, or the passage that fits
    is_cut: bool
    score: float  # 0..1
    relevance: float  # 0..1
    occurred_at: datetime
    speaker: str | None
    session_id: str | None
    source: str | None
    title: str | None


@dataclass(frozen=True, slots=True)
class Citation:
    """The source of a mark such as [2] in the text."""

    mark: int  # from 1
    block_id: UUID


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Context:
    """A context, as it is computed and cached."""

    blocks: Sequence[ContextBlock]  # best first
    text: str  # empty when nothing was found
    citations: Sequence[Citation]  # of the marks in the text, in order of their numbers
    token_count: int  # of the text
    synthesized_by: str | None  # the model that wrote the text; None: the template
    is_relevant: bool  # whether any block found reaches the threshold
    degraded: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ContextResult:
    """A context as it is returned."""

    context: Context
    age_seconds: float | None  # of the cached entry; None when computed for this request
    degraded: Sequence[str]
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # by stage


@dataclass(frozen=True, slots=True)
class SynthesisRequest:
    """The input from which a model writes a context."""

    query: str
    blocks: Sequence[ContextBlock]  # cited by their place, from 1
    tokens_max: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence of a synthesis."""

    text: str
    marks: Sequence[int]  # places of the blocks it rests on, as the model said


@dataclass(frozen=True, slots=True)
class Synthesis:
    """A model's output for the blocks; not checked yet."""

    statements: Sequence[Statement]
    calls: Sequence[ModelCall] = ()  # it used
