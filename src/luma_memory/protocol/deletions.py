"""Bulk deletion of blocks on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.block import BlockStatus
from luma_memory.protocol.validation import Name

IDS_MAX = 1_000


class DeleteBlocksBody(BaseModel):
    """The blocks to delete: at least one condition, or `all`. Conditions are combined with AND."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"user_id": "user-42", "filters": {"source": "import"}, "dry_run": True}]
        },
    )

    user_id: Name | None = Field(
        None, description="Blocks of this user; without it of all users, which needs `admin`."
    )
    filters: dict[str, Any] | None = Field(
        None,
        description="As in POST /search, see docs/recall.md.",
        examples=[{"source": "slack", "NOT": {"tags": "draft"}}],
    )
    status: BlockStatus | None = None
    session_id: Name | None = None
    ids: list[UUID] | None = Field(None, max_length=IDS_MAX)
    all: bool = Field(False, description="Every block that matches the other conditions.")
    dry_run: bool = Field(False, description="Count only, and return a `confirmation`.")
    confirmation: Name | None = Field(
        None, description="From the dry run of the same conditions; required to delete."
    )

    @property
    def selects(self) -> dict[str, Any]:
        """The conditions as JSON."""
        return self.model_dump(mode="json", exclude={"dry_run", "confirmation"}, exclude_none=True)


class DeleteBlocksResponse(BaseModel):
    """What was counted or deleted."""

    dry_run: bool
    matched: int = Field(description="Selected blocks before this request.")
    deleted: int
    more: bool = Field(
        description="The limit of one request was reached: repeat it with this `confirmation`."
    )
    confirmation: str | None = Field(description="null if nothing is left to delete.")
    expires_at: datetime | None = Field(description="Of the confirmation.")
