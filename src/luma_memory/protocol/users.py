"""Users on the wire: settings, erasure, export and import."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.erasure import Erasure, Receipt
from luma_memory.domain.scope import Scope
from luma_memory.domain.user import User
from luma_memory.protocol.validation import Name


class UserBody(BaseModel):
    """A user's settings, and since when there is something of them."""

    user_id: str
    time_zone: str = Field(description="Whose calendar the user's weeks follow.")
    created_at: datetime | None = Field(description="null: nothing is stored of them.")
    last_ingest_at: datetime | None

    @classmethod
    def of(cls, scope: Scope, user: User) -> UserBody:
        return cls(
            user_id=scope.user_id,
            time_zone=user.time_zone,
            created_at=user.created_at,
            last_ingest_at=user.last_ingest_at,
        )


class UserEditBody(BaseModel):
    """What is to change of a user's settings."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"minProperties": 1, "examples": [{"time_zone": "Europe/Lisbon"}]},
    )

    # May be left out and may not be null; what stands here then is read by nobody.
    time_zone: Name = Field(
        default_factory=str, description="Name of the IANA time zone database: Europe/Lisbon."
    )


class ReceiptBody(BaseModel):
    """That a user was erased. Keep it: `luma-memory verify-erasure` looks whether it holds."""

    model_config = ConfigDict(extra="forbid")

    receipt_id: UUID
    project_id: str
    user_id: str
    counts: dict[str, int] = Field(description="Rows deleted, by what they were.")
    started_at: datetime
    erased_at: datetime
    signature: str = Field(description="Binds all of it to this installation.")

    @classmethod
    def of(cls, receipt: Receipt) -> ReceiptBody:
        erasure, scope = receipt.erasure, receipt.scope
        return cls(
            receipt_id=erasure.id,
            project_id=scope.project_id,
            user_id=scope.user_id,
            counts=dict(erasure.counts),
            started_at=erasure.started_at,
            erased_at=erasure.erased_at,
            signature=receipt.signature,
        )

    def receipt(self) -> Receipt:
        """What it says, whether or not it is true."""
        erasure = Erasure(self.receipt_id, self.counts, self.started_at, self.erased_at)
        return Receipt(erasure, Scope(self.project_id, self.user_id), self.signature)


class ImportedBody(BaseModel):
    """What an import came to, by kinds of rows."""

    read: dict[str, int]
    stored: dict[str, int] = Field(description="Those that were not there before.")
    enqueued: int = Field(description="Jobs made for blocks that wait for enrichment.")
