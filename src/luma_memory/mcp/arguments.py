"""The arguments of the tools, checked by the same rules as the REST API's bodies."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from luma_memory.protocol.context import TOKEN_BUDGET_MAX, TOKEN_BUDGET_MIN
from luma_memory.protocol.jobs import JobId
from luma_memory.protocol.validation import Content, Instant, Name, Query, check_metadata

LIMIT_MAX: Final = 50
MESSAGES_MAX: Final = 100
OFFSET_MAX: Final = 1_000_000

# The wire model refers to the API's document for its schema.
Metadata = Annotated[dict[str, Any], AfterValidator(check_metadata)]


class Arguments(BaseModel):
    """Unknown arguments are errors: a misspelled one would silently change the result."""

    model_config = ConfigDict(extra="forbid")


class OfUser(Arguments):
    # Left out by hosts that work for one user. Described in the first tool only: a host puts the
    # schemas of all tools into each prompt.
    user_id: Name | None = None


class SearchArguments(OfUser):
    user_id: Name | None = Field(None, description="Default: the current user.")
    query: Query
    limit: int = Field(10, ge=1, le=LIMIT_MAX)
    filters: dict[str, Any] | None = Field(
        None,
        description='e.g. {"speaker": "Ana", "occurred_at": {"gte": "2026-01-01"}}',
    )


class ContextArguments(OfUser):
    query: Query
    token_budget: int | None = Field(None, ge=TOKEN_BUDGET_MIN, le=TOKEN_BUDGET_MAX)


class Message(Arguments):
    content: Content
    role: Name | None = Field(None, description="The speaker.")


class AddArguments(OfUser):
    content: Content | None = Field(None, description="One statement.")
    messages: list[Message] | None = Field(
        None,
        min_length=1,
        max_length=MESSAGES_MAX,
        description="A conversation, instead of content.",
    )
    session_id: Name | None = None
    occurred_at: Instant | None = Field(None, description="If not now.")
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> AddArguments:
        if (self.content is None) == (self.messages is None):
            raise PydanticCustomError(
                "content_or_messages", "pass either content or messages, not both"
            )
        return self


class GetArguments(OfUser):
    id: UUID
    offset: int = Field(0, ge=0, le=OFFSET_MAX, description="next_offset of a truncated text.")


class UpdateArguments(OfUser):
    id: UUID
    content: Content | None = None
    occurred_at: Instant | None = None
    metadata: Metadata | None = Field(None, description="Replaces the whole object.")

    @model_validator(mode="after")
    def _changes(self) -> UpdateArguments:
        if self.content is None and self.occurred_at is None and self.metadata is None:
            raise PydanticCustomError("changes_missing", "name at least one field to change")
        return self


class DeleteArguments(OfUser):
    id: UUID


class JobArguments(OfUser):
    id: JobId = Field(description="job_id of add_memory.")


class TwinSearchArguments(Arguments):
    query: Query


class TwinFetchArguments(Arguments):
    id: UUID


class RecallArguments(Arguments):
    """Of the prompt `recall`."""

    topic: Query
    user_id: Name | None = None
