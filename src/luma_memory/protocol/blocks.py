"""Blocks on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.block import BlockStatus
from luma_memory.domain.enrichment import EnrichmentKind, EntityKind
from luma_memory.domain.revision import RevisionReason
from luma_memory.protocol.validation import Content, Instant, Metadata, Name

BATCH_BLOCKS_MAX = 1_000


class NewBlockBody(BaseModel):
    """One memory block to store.

    Session, speaker and time are what recall ranks by beside the words: send them when you have
    them.
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
    content: Content = Field(description="What was said, done or is to be remembered.")
    agent_id: Name | None = None
    session_id: Name | None = Field(None, description="The conversation it is part of.")
    speaker: Name | None = Field(None, description="Who said it.")
    source: Name | None = Field(None, description="Where it comes from: chat, mail, form …")
    external_id: Name | None = Field(
        None, description="Your own id of the block; sending it twice stores one block."
    )
    metadata: Metadata = Field(default_factory=dict, description="Anything else, as JSON.")
    occurred_at: Instant | None = Field(
        None, description="When it happened; now, when left out. Without a zone: UTC."
    )
    expires_at: Instant | None = Field(None, description="When it stops being remembered.")
    idempotency_key: Name | None = Field(
        None, description="Name of this request; the header Idempotency-Key does the same."
    )


class BlockEditBody(BaseModel):
    """What is to change; what is left out stays. `null` takes a value away.

    What enrichment derives (title, summary, tags …) is not edited: it follows the text.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "minProperties": 1,
            "examples": [{"content": "I moved to Lisbon in February.", "speaker": "Ana"}],
        },
    )

    # May be left out and may not be null; what stands here then is read by nobody.
    content: Content = Field(
        default_factory=str, description="The new text; the block is enriched anew."
    )
    occurred_at: Instant = Field(
        default_factory=lambda: datetime.now(UTC),
        description="When it happened. Without a zone: UTC. Enriched anew.",
    )
    speaker: Name | None = Field(None, description="Who said it. Enriched anew.")
    agent_id: Name | None = None
    session_id: Name | None = None
    source: Name | None = None
    metadata: Metadata = Field(default_factory=dict, description="Replaces all of it.")
    expires_at: Instant | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class BatchBody(BaseModel):
    """Blocks to store together; each gets its own outcome."""

    model_config = ConfigDict(extra="forbid")

    # Checked one by one, so that a bad one does not fail its neighbours.
    blocks: list[Any] = Field(
        min_length=1,
        max_length=BATCH_BLOCKS_MAX,
        description="Anything that is no block gets an error of its own.",
        json_schema_extra={"items": {"anyOf": [{"$ref": "#/components/schemas/NewBlockBody"}, {}]}},
    )


class AcceptedBody(BaseModel):
    """The block is stored, with the job that will enrich it."""

    id: UUID
    status: BlockStatus = "pending_enrichment"
    job_id: int
    duplicate: bool | None = Field(
        None, description="True when the same block stood already: this is that one, counted."
    )


class BatchItemError(BaseModel):
    """Why one block of a batch was not stored."""

    code: str
    detail: str
    field: str | None = None


class BatchItem(BaseModel):
    """The outcome of one block: either stored, or an error."""

    index: int = Field(description="Position in the request, from 0.")
    id: UUID | None = None
    status: BlockStatus | None = None
    job_id: int | None = None
    duplicate: bool | None = Field(None, description="True when the same block stood already.")
    error: BatchItemError | None = None


class BatchResponse(BaseModel):
    """One outcome a block, in order of the request."""

    accepted: int
    rejected: int
    results: list[BatchItem]


class EntityBody(BaseModel):
    name: str
    kind: EntityKind
    value: str | None = Field(None, description="Canonical form; ISO 8601 for dates.")


class BlockBody(BaseModel):
    """A block as it is stored."""

    id: UUID
    user_id: str
    content: str
    status: BlockStatus
    enrichment: EnrichmentKind
    enrichment_model: str | None = Field(description="What enriched it: model and prompt.")
    agent_id: str | None
    session_id: str | None
    speaker: str | None
    source: str | None
    external_id: str | None
    metadata: dict[str, Any]
    occurred_at: datetime
    expires_at: datetime | None
    title: str | None
    summary: str | None
    tags: list[str]
    entities: list[EntityBody]
    importance: Annotated[float, Field(ge=0, le=1)] | None
    language: str | None
    error: str | None = Field(description="Why it failed, or went without a provider's part.")
    superseded_by: UUID | None
    superseded_at: datetime | None
    revision: int
    job_id: int | None
    repeat_count: int = Field(0, description="How often the same block was sent again.")
    created_at: datetime
    updated_at: datetime


class BlockPageBody(BaseModel):
    """Blocks, newest first."""

    blocks: list[BlockBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")


class RevisionBody(BaseModel):
    """What a change replaced."""

    revision: int = Field(description="Of the block, before the change.")
    reason: RevisionReason = Field(description="What changed it.")
    changed_by: str
    before: dict[str, Any] = Field(description="Fields as they were.")
    changed_at: datetime


class RevisionPageBody(BaseModel):
    """What a block was, newest first."""

    revisions: list[RevisionBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")
