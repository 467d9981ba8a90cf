"""Request bodies of mem0's routes.

A field that changes what is stored or returned is either honored or refused: those that this
service does not offer are declared, and `check_offered` raises for them. Fields that only concern
the form of the hosted API's responses are accepted and have no effect.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from luma_memory.api.mem0.not_offered import not_offered
from luma_memory.api.mem0.times import Expiry, Timestamp
from luma_memory.protocol.validation import Content, Metadata, Name, Query

MESSAGES_MAX = 200
BATCH_MAX = 1_000
TOP_K_MAX = 200
PAGE_MAX = 1_000_000
PAGE_SIZE_MAX = 200
_EXAMPLE_ID = "0198f3a2-7c11-7abc-9def-0123456789ab"


def _blank_is_none(value: object) -> object:
    # What mem0's clients send for an id that is not set.
    return None if value == "" else value


Id = Annotated[Name | None, BeforeValidator(_blank_is_none)]


class Body(BaseModel):
    """A body with the fields that every call may carry."""

    model_config = ConfigDict(extra="forbid")
    # Field, and the feature it stands for.
    REFUSED: ClassVar[dict[str, str]] = {}

    # Accepted without effect: the key determines the project; there is one version of responses.
    org_id: Any = None
    project_id: Any = None
    version: Any = None
    api_version: Any = None
    output_format: Any = None
    source: Any = None

    def check_offered(self) -> None:
        """Raises NotOffered for a field of REFUSED that is set to anything but its default."""
        for name, feature in self.REFUSED.items():
            if getattr(self, name):
                raise not_offered(feature)


class IdsBody(Body):
    """A body that names whose memories."""

    user_id: Id = None
    agent_id: Id = None
    app_id: Id = None
    run_id: Id = None

    @property
    def ids(self) -> dict[str, str | None]:
        return {
            "user_id": self.user_id,
            "agent_id": self.agent_id,
            "app_id": self.app_id,
            "run_id": self.run_id,
        }


class AddBody(IdsBody):
    """Messages to remember; each becomes a block with its speaker."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [{"role": "user", "content": "I moved to Lisbon last week."}],
                    "user_id": "ana",
                    "metadata": {"channel": "chat"},
                }
            ]
        }
    )
    REFUSED = {
        "custom_categories": "custom categories",
        "custom_instructions": "custom instructions for extraction",
        "agent_custom_instructions": "custom instructions for extraction",
        "structured_data_schema": "extraction by a schema",
        "includes": "including topics by a prompt",
        "excludes": "excluding topics by a prompt",
        "immutable": "immutable memories",
        "enable_graph": "graph memory by request (MEMORY_RELATIONS_ENABLED finds relations)",
        "memory_type": "procedural memory",
        "prompt": "a prompt of the request",
    }

    messages: str | dict[str, Any] | list[Any]
    filters: dict[str, Any] | None = Field(None, description="The ids, as an alternative.")
    metadata: Metadata | None = None
    infer: bool | None = None
    timestamp: Timestamp = None
    expiration_date: Expiry = None
    async_mode: Literal[True] | None = None
    custom_categories: Any = None
    custom_instructions: Any = None
    agent_custom_instructions: Any = None
    structured_data_schema: Any = None
    includes: Any = None
    excludes: Any = None
    immutable: Any = None
    enable_graph: Any = None
    memory_type: Any = None
    prompt: Any = None


class ListBody(IdsBody):
    """Which memories to list."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filters": {"user_id": "ana"}}]})
    REFUSED = {"enable_graph": "graph memory by request"}

    filters: dict[str, Any] | None = None
    start_date: str | None = None
    end_date: str | None = None
    categories: list[Any] | None = None
    show_expired: bool | None = None
    latest_only: bool | None = None
    fields: list[str] | None = None
    enable_graph: Any = None


class SearchBody(ListBody):
    """A query over memories."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "Where does Ana live?", "filters": {"user_id": "ana"}}]
        }
    )
    REFUSED = {
        **ListBody.REFUSED,
        "show_expired": "a search of expired memories",
        "reference_date": "a reference date",
    }

    query: Query
    top_k: Annotated[int, Field(ge=1, le=TOP_K_MAX)] | None = None
    limit: Annotated[int, Field(ge=1, le=TOP_K_MAX)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    # Our ranking always reads terms beside the meaning, and is one ranking.
    rerank: bool | None = None
    keyword_search: bool | None = None
    filter_memories: bool | None = None
    reference_date: Any = None
    metadata: dict[str, Any] | None = Field(None, description="Of the search; it has no effect.")


class UpdateBody(Body):
    """What to change of a memory."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "I moved to Lisbon in February."}]}
    )

    text: Content | None = None
    # The open-source server's name.
    data: Content | None = None
    metadata: Metadata | None = None
    timestamp: Timestamp = None
    expiration_date: Expiry = None


class BatchUpdateItem(UpdateBody):
    """One memory of a batch, and what to change of it."""

    memory_id: Name


class BatchUpdateBody(Body):
    """Memories to change together."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"memories": [{"memory_id": _EXAMPLE_ID, "text": "I live in Lisbon."}]}]
        }
    )

    memories: Annotated[list[BatchUpdateItem], Field(min_length=1, max_length=BATCH_MAX)]


class BatchDeleteItem(Body):
    """One memory of a batch."""

    memory_id: Name


class BatchDeleteBody(Body):
    """Memories to delete together."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"memories": [{"memory_id": _EXAMPLE_ID}]}]}
    )

    memories: Annotated[list[BatchDeleteItem], Field(min_length=1, max_length=BATCH_MAX)]
