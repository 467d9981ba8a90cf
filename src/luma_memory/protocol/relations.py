"""Relations on the wire."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.relation import Relation, RelationStatus, RelationType


class RelationBody(BaseModel):
    """A relation, read from source to target: "source supersedes target"."""

    id: UUID
    source_id: UUID
    target_id: UUID
    type: RelationType
    confidence: float = Field(ge=0, le=1)
    evidence: str | None = Field(description="Quotes from both blocks that support it.")
    model: str = Field(description="Detected by: a model and its prompt, or local rules.")
    status: RelationStatus
    decided_by: str | None = Field(description="Who accepted or rejected it; null if undecided.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, relation: Relation) -> RelationBody:
        return cls(
            id=relation.id,
            source_id=relation.source_id,
            target_id=relation.target_id,
            type=relation.type,
            confidence=relation.confidence,
            evidence=relation.evidence,
            model=relation.model,
            status=relation.status,
            decided_by=relation.decided_by,
            created_at=relation.created_at,
            updated_at=relation.updated_at,
        )


class RelationPageBody(BaseModel):
    """Relations, newest first."""

    relations: list[RelationBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")


class RelationEditBody(BaseModel):
    """The decision about a relation."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"status": "rejected"}]}
    )

    status: RelationStatus
