"""Blocks on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.block import BlockStatus
from luma_memory.domain.enrichment import EnrichmentKind, EntityKind
from luma_memory.domain.revision import RevisionReason
from luma_memory.protocol.validation import (
    Content,
    Instant,
    LocalInstant,
    Metadata,
    Name,
    UtcInstant,
)

BATCH_BLOCKS_MAX = 1_000


class ClientFields(BaseModel):
    """What a client may add to a block's content, when it is stored and when it is changed."""

    agent_id: Name | None = None
    session_id: Name | None = Field(None, description="The conversation it belongs to.")
    speaker: Name | None = Field(None, description="Who said it.")
    source: Name | None = Field(None, description="Its origin: chat, mail, form …")
    metadata: Metadata = Field(default_factory=dict, description="Anything else, as JSON.")
    expires_at: Instant | None = Field(None, description="When the block expires.")


class NewBlockBody(ClientFields):
    """One memory block to store.

    Besides the text, recall ranks by session, speaker and time: send them if you have them.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "user_id": "user-42",
                    "content": "I moved to Lisbon last week and the flat has a view of the river.",
                    "speaker": "Ana",
                    "session_id": "chat-2026-03-04",
                    "occurred_at": "2026-03-04T18:30:00Z",
                }
            ]
        },
    )

    user_id: Name = Field(description="Your own id of the end user the block belongs to.")
    content: Content = Field(description="The text to remember.")
    external_id: Name | None = Field(
        None, description="Your own id of the block; sending it twice stores one block."
    )
    occurred_at: LocalInstant | None = Field(
        None, description="When it happened; defaults to now. UTC if no offset is given."
    )
    idempotency_key: Name | None = Field(
        None, description="Identifies this request, as the header Idempotency-Key does."
    )


class BlockEditBody(ClientFields):
    """The fields to change; omitted fields keep their values, `null` clears one.

    Derived fields (title, summary, tags …) cannot be edited: they follow the text.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "minProperties": 1,
            "examples": [{"content": "I moved to Lisbon in February.", "speaker": "Ana"}],
        },
    )

    # Optional but not nullable; the default is never read.
    content: Content = Field(
        default_factory=str, description="The new text; the block is enriched again."
    )
    occurred_at: LocalInstant = Field(
        default_factory=lambda: datetime.now(UTC),
        description="When it happened; UTC if no offset is given. The block is enriched again.",
    )
    speaker: Name | None = Field(None, description="Who said it. The block is enriched again.")
    metadata: Metadata = Field(default_factory=dict, description="Replaces the whole object.")

    @property
    def changes(self) -> dict[str, Any]:
        """The fields present in the request."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class BatchBody(BaseModel):
    """Blocks to store together; each gets its own outcome."""

    model_config = ConfigDict(extra="forbid")

    # Validated one by one, so that an invalid block does not fail the others.
    blocks: list[Any] = Field(
        min_length=1,
        max_length=BATCH_BLOCKS_MAX,
        description="An item that is not a valid block gets its own error.",
        json_schema_extra={"items": {"anyOf": [{"$ref": "#/components/schemas/NewBlockBody"}, {}]}},
    )


class AcceptedBody(BaseModel):
    """The block is stored, with the job that will enrich it."""

    id: UUID
    status: BlockStatus = "pending_enrichment"
    job_id: int
    duplicate: bool | None = Field(
        None, description="True if the same block was already stored: this is its id."
    )


class BatchItemError(BaseModel):
    """Why one block of a batch was not stored."""

    code: str
    detail: str
    field: str | None = None


class BatchItem(BaseModel):
    """The outcome of one block: its id, or an error."""

    index: int = Field(description="Position in the request, from 0.")
    id: UUID | None = None
    status: BlockStatus | None = None
    job_id: int | None = None
    duplicate: bool | None = Field(None, description="True if the same block was already stored.")
    error: BatchItemError | None = None


class BatchResponse(BaseModel):
    """One outcome per block, in request order."""

    accepted: int
    rejected: int
    results: list[BatchItem]


class EntityBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    kind: EntityKind
    value: str | None = Field(None, description="Canonical form; ISO 8601 for dates.")


class BlockBody(BaseModel):
    """A stored block."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: str
    content: str
    status: BlockStatus
    enrichment: EnrichmentKind
    enrichment_model: str | None = Field(description="Model and prompt that enriched it.")
    agent_id: str | None
    session_id: str | None
    speaker: str | None
    source: str | None
    external_id: str | None
    metadata: dict[str, Any]
    occurred_at: UtcInstant
    expires_at: datetime | None
    title: str | None
    summary: str | None
    tags: list[str]
    entities: list[EntityBody]
    importance: Annotated[float, Field(ge=0, le=1)] | None
    language: str | None
    error: str | None = Field(description="Why enrichment failed or fell back.")
    superseded_by: UUID | None
    superseded_at: datetime | None
    revision: int
    job_id: int | None
    repeat_count: int = Field(0, description="Times the same block was sent again.")
    namespace: list[str] | None = Field(None, description="Of an item; null for other blocks.")
    key: str | None = Field(None, description="Of an item; null for other blocks.")
    created_at: datetime
    updated_at: datetime


class BlockPageBody(BaseModel):
    """Blocks, newest first."""

    blocks: list[BlockBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")


class RevisionBody(BaseModel):
    """The values that a change replaced."""

    revision: int = Field(description="The block's revision before the change.")
    reason: RevisionReason = Field(description="What changed the block.")
    changed_by: str
    before: dict[str, Any] = Field(description="The fields' previous values.")
    changed_at: datetime


class RevisionPageBody(BaseModel):
    """A block's revisions, newest first."""

    revisions: list[RevisionBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")
