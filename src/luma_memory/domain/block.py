"""The memory block: a stored record of something a user said, did or wants remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

from luma_memory.domain.enrichment import EnrichmentKind, Entity
from luma_memory.domain.scope import Scope

BlockStatus = Literal["pending_enrichment", "active", "failed"]
JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)

BackfillStep = Literal["enrich", "embed"]

CONTENT_CHARACTERS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFields:
    """What a client may add to a block's content; stored and returned unchanged.

    The names are those of the wire (protocol.blocks) and of the columns (memory_block_input).
    """

    agent_id: str | None = None
    session_id: str | None = None
    speaker: str | None = None
    source: str | None = None
    external_id: str | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    expires_at: datetime | None = None


CLIENT_FIELDS: Final = tuple(one.name for one in fields(ClientFields))


@dataclass(frozen=True, slots=True)
class NewBlock(ClientFields):
    """A block as its client describes it, checked and with its defaults filled in."""

    scope: Scope
    content: str
    occurred_at: datetime  # with the offset it was sent with
    idempotency_key: str | None = None
    # SHA-256 of everything the client sent with an idempotency key: one key means one request.
    request_hash: bytes | None = None
    # An equal block that occurred between this and occurred_at is a repetition; None: never.
    repeats_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PassagePlace:
    """The position of one passage in the content of its block."""

    ordinal: int  # from 0, in order of the content
    start: int  # character offsets [start, stop)
    stop: int


@dataclass(frozen=True, slots=True)
class PassageText(PassagePlace):
    """One passage of a block with its words as a term vector."""

    lexemes: bytes  # pgvector sparsevec in its binary form


@dataclass(frozen=True, slots=True)
class IngestItem:
    """A new block, ready to be stored: identified, hashed and cut into passages."""

    id: UUID
    block: NewBlock
    content_hash: bytes
    passages: Sequence[PassageText]
    traceparent: str | None = None  # of the request, for the trace of its job


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is returned for an accepted block; the same again for a repeated request."""

    id: UUID
    job_id: int
    # False when the same idempotency key or external id had been accepted before.
    created: bool = True
    # False when that earlier request had the same idempotency key but another body.
    same_request: bool = True
    # Status of the stored block that this one repeats; else None.
    repeats: BlockStatus | None = None


@dataclass(frozen=True, slots=True)
class Block(ClientFields):
    """A block as it is stored."""

    id: UUID
    scope: Scope
    content: str
    status: BlockStatus
    enrichment: EnrichmentKind
    occurred_at: datetime  # with the offset it was sent with
    created_at: datetime
    updated_at: datetime
    revision: int
    title: str | None = None
    summary: str | None = None
    tags: Sequence[str] = ()
    entities: Sequence[Entity] = ()
    importance: float | None = None  # 0..1
    language: str | None = None  # ISO 639-1, "und" when it is unknown
    error: str | None = None
    superseded_by: UUID | None = None
    superseded_at: datetime | None = None
    job_id: int | None = None
    repeat_count: int = 0  # how often an equal block was sent again
    enriched_revision: int | None = None  # the revision the derived facts are based on
    enrichment_model: str | None = None  # the model or method that derived them, with its version
    # Pending steps of an active block; None without any.
    backfill_steps: Sequence[BackfillStep] | None = None
    # Of an item; None for other blocks.
    namespace: Sequence[str] | None = None
    key: str | None = None

    @property
    def user_id(self) -> str:
        return self.scope.user_id


class BlockToEnrich(NamedTuple):
    """The part of a block its job reads: a draining backlog reads thousands per second."""

    scope: Scope
    id: UUID
    content: str
    speaker: str | None
    session_id: str | None
    occurred_at: datetime
    created_at: datetime
    status: BlockStatus
    revision: int
    enrichment: EnrichmentKind
    enriched_revision: int | None
    language: str | None
    error: str | None
    backfill_steps: Sequence[BackfillStep] | None
    # Ingest stored the whole content as one passage, and its language is still unknown: its terms
    # are those of the default language.
    is_indexed: bool
    is_item: bool = False  # an item is embedded, and not enriched
