"""Facts and vectors derived from a block's text."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

EntityKind = Literal[
    "person", "place", "organization", "date", "event", "product", "number", "link", "other"
]
EnrichmentKind = Literal["none", "model", "local", "fallback"]

# Unit length, float32, `dimension` values.
Vector: TypeAlias = "array[float]"


@dataclass(frozen=True, slots=True)
class Entity:
    """Something the text names. `value` is its canonical form where there is one.

    For a date that is ISO 8601 ("2023-05-07", "2023-05", "2023"), resolved against the block's
    `occurred_at`; otherwise None.
    """

    name: str
    kind: EntityKind
    value: str | None = None


@dataclass(frozen=True, slots=True)
class EnrichmentRequest:
    """An enricher's input: a block's text with the speaker and time its meaning depends on."""

    content: str
    occurred_at: datetime
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One completed call of a model, with the tokens its provider counted."""

    model: str  # "vendor/model"
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def is_local(self) -> bool:
        """Whether the model ran on this machine, so that the call is free and not counted."""
        return self.model.startswith("local/")


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Derived facts of one block. Never replaces the content."""

    title: str  # 1..120 characters, one line, in the block's own language
    summary: str  # 1..600 characters, in the block's own language
    tags: Sequence[str]  # up to 10, lower case, best first, unique
    entities: Sequence[Entity]  # up to 50, in order of appearance, unique by (name, kind)
    importance: float  # 0..1
    language: str  # ISO 639-1, "und" when it is unknown
    model: str  # the enricher and its version
    calls: Sequence[ModelCall] = ()  # including those of models that failed


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """Properties of the model that computed a vector, as readers of vectors need them."""

    id: str  # stored beside every vector; vectors of different ids are never compared
    dimension: int
    max_tokens: int  # longer texts are cut here
    # Scripts it can read, by the first word of Unicode's character names ("LATIN"); None: all.
    # Its vectors of texts in other scripts are meaningless.
    scripts: frozenset[str] | None = None
    # Whether the speaker's name replaces "I" in the passages that are embedded.
    names_speakers: bool = False
    # The id of the same model in an earlier version: scopes that have its vectors are re-embedded
    # by workers without a request, since that costs nothing but time.
    replaces: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, so that a call is free."""
        return self.id.startswith("local/")


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector of one text."""

    vector: Vector
    token_count: int = 0  # tokens read, after truncation
    truncated: bool = field(default=False)


@dataclass(frozen=True, slots=True)
class PendingBackfillCounts:
    """Active blocks with a pending backfill."""

    due: int  # due: a worker processes it next
    later: int  # to be retried later
    asked: int  # only by `luma-memory backfill`: the step was switched off at ingest
