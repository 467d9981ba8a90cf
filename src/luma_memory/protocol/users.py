"""Users on the wire: settings, erasure, export and import."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.erasure import Erasure, Receipt
from luma_memory.domain.scope import Scope
from luma_memory.domain.user import FrequentTerm, ListedUser, Session, TermProfile, User, UserCounts
from luma_memory.protocol.validation import Name, UtcInstant


class UserBody(BaseModel):
    """A user's settings and times of activity."""

    user_id: str
    time_zone: str = Field(description="Time zone of the user's weeks.")
    created_at: datetime | None = Field(description="null if nothing is stored for the user.")
    last_ingest_at: datetime | None

    @classmethod
    def of(cls, scope: Scope, user: User) -> UserBody:
        return cls(
            user_id=scope.user_id,
            time_zone=user.time_zone,
            created_at=user.created_at,
            last_ingest_at=user.last_ingest_at,
        )


class UserCountsBody(BaseModel):
    """Blocks and items of a user."""

    blocks: int
    pending: int = Field(description="Blocks that wait for enrichment.")
    failed: int = Field(description="Blocks whose enrichment failed.")
    items: int

    @classmethod
    def of(cls, counts: UserCounts) -> UserCountsBody:
        return cls(
            blocks=counts.blocks, pending=counts.pending, failed=counts.failed, items=counts.items
        )


class UserEntryBody(BaseModel):
    """A user in the list of users."""

    user_id: str
    time_zone: str
    created_at: datetime
    last_activity_at: datetime | None = Field(description="When a block or item was last stored.")
    counts: UserCountsBody
    counts_limited: bool = Field(
        description="There is more: counts cover 10,000 blocks and items at most."
    )

    @classmethod
    def of(cls, listed: ListedUser) -> UserEntryBody:
        user = listed.user
        assert user.created_at is not None, "a listed user is stored"
        return cls(
            user_id=listed.user_id,
            time_zone=user.time_zone,
            created_at=user.created_at,
            last_activity_at=user.last_ingest_at,
            counts=UserCountsBody.of(listed.counts),
            counts_limited=listed.counts.is_limited,
        )


class UserPageBody(BaseModel):
    """Users of the project."""

    users: list[UserEntryBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")


class SessionBody(BaseModel):
    """The blocks of a user that carry one session id."""

    session_id: str
    blocks: int
    first_occurred_at: UtcInstant
    last_occurred_at: UtcInstant
    last_created_at: datetime = Field(description="When its last block was stored.")

    @classmethod
    def of(cls, session: Session) -> SessionBody:
        return cls(
            session_id=session.session_id,
            blocks=session.block_count,
            first_occurred_at=session.first_occurred_at,
            last_occurred_at=session.last_occurred_at,
            last_created_at=session.last_created_at,
        )


class SessionPageBody(BaseModel):
    """Sessions, the one with the newest block first."""

    sessions: list[SessionBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")


class TermBody(BaseModel):
    """A tag of a user's blocks."""

    term: str = Field(description="A tag: the filter `tags` of search finds its blocks.")
    blocks: int = Field(description="Blocks that carry it.")
    last_occurred_at: UtcInstant

    @classmethod
    def of(cls, found: FrequentTerm) -> TermBody:
        return cls(
            term=found.term, blocks=found.block_count, last_occurred_at=found.last_occurred_at
        )


class TermProfileBody(BaseModel):
    """What a user's blocks are about: their most frequent tags."""

    terms: list[TermBody] = Field(description="The most frequent first.")
    blocks: int = Field(description="Blocks that were examined, the newest ones.")
    limited: bool = Field(description="There are older blocks: at most 10,000 are examined.")

    @classmethod
    def of(cls, profile: TermProfile) -> TermProfileBody:
        return cls(
            terms=[TermBody.of(one) for one in profile.terms],
            blocks=profile.block_count,
            limited=profile.is_limited,
        )


class UserEditBody(BaseModel):
    """The user settings to change."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"minProperties": 1, "examples": [{"time_zone": "Europe/Lisbon"}]},
    )

    # Optional but not nullable; the default is never read.
    time_zone: Name = Field(
        default_factory=str, description="IANA time zone name, for example Europe/Lisbon."
    )


class ReceiptBody(BaseModel):
    """Proof that a user was erased. Keep it: `luma-memory verify-erasure` verifies it."""

    model_config = ConfigDict(extra="forbid")

    receipt_id: UUID
    project_id: str
    user_id: str
    counts: dict[str, int] = Field(description="Deleted rows by kind.")
    started_at: datetime
    erased_at: datetime
    signature: str = Field(description="Signs the receipt for this installation.")

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
        """The receipt as stated; the signature is not verified."""
        erasure = Erasure(self.receipt_id, self.counts, self.started_at, self.erased_at)
        return Receipt(erasure, Scope(self.project_id, self.user_id), self.signature)


class ImportedBody(BaseModel):
    """Result of an import, by kind of row."""

    read: dict[str, int]
    stored: dict[str, int] = Field(description="Rows that did not exist before.")
    enqueued: int = Field(description="Jobs created for blocks pending enrichment.")


class ImportProblemBody(BaseModel):
    """An item of an export that was not stored."""

    where: str = Field(description="Its place in the export, or its external id.")
    reason: str = Field(description="Why it was skipped, or `refused: ` and an error code.")
    detail: str


class ImportSampleBody(BaseModel):
    """One of the first blocks of an import; its text is cut after 300 characters."""

    user_id: str
    content: str
    speaker: str | None
    session_id: str | None
    occurred_at: datetime | None


class ImportReportBody(BaseModel):
    """What became of the items of another system's export."""

    format: str
    found: int = Field(description="Blocks to store; with `dry_run`, all there is.")
    samples: list[ImportSampleBody] = Field(description="The first three.")
    stored: int = Field(description="With those that an earlier import stored.")
    refused: int
    skipped: dict[str, int] = Field(description="By reason.")
    without_time: int = Field(description="Stored as of now.")
    earliest: datetime | None
    latest: datetime | None
    problems: list[ImportProblemBody] = Field(description="The first thousand.")
