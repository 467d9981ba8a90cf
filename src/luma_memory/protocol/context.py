"""Contexts and cache statistics on the wire."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.protocol.validation import Name, Query, UtcInstant

BLOCKS_MAX = 200
TOKEN_BUDGET_MIN = 50
TOKEN_BUDGET_MAX = 100_000
TIMEOUT_MS_MIN = 10
TIMEOUT_MS_MAX = 60_000
TIMEOUT_MS_DEFAULT = 10_000


class ContextBody(BaseModel):
    """A query for a context."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "user_id": "user-42",
                    "query": "Where does Ana live now?",
                    "max_blocks": 5,
                    "token_budget": 800,
                }
            ]
        },
    )

    user_id: Name
    query: Query
    max_blocks: int | None = Field(
        None,
        ge=1,
        le=BLOCKS_MAX,
        description="Default and upper limit: MEMORY_MAX_CONTEXT_BLOCKS. With `token_budget` alone"
        " the number follows the ranking: 0.8 to 2 times as many, the flatter the more.",
    )
    token_budget: int | None = Field(
        None,
        ge=TOKEN_BUDGET_MIN,
        le=TOKEN_BUDGET_MAX,
        description="Maximum tokens of `text`; defaults to MEMORY_CONTEXT_TOKEN_BUDGET.",
    )
    synthesize: bool = Field(
        True, description="Let a model write the text, if one is configured and enabled."
    )
    relevant_only: bool = Field(False, description="Omit blocks below MEMORY_SIMILARITY_THRESHOLD.")
    include_items: bool = Field(False, description="Include items, see POST /items/search.")
    timeout_ms: int = Field(TIMEOUT_MS_DEFAULT, ge=TIMEOUT_MS_MIN, le=TIMEOUT_MS_MAX)


class ContextBlockBody(BaseModel):
    """The part of a block that is in the context."""

    id: UUID
    content: str
    cut: bool = Field(description="`content` is the best passage of a longer block.")
    score: float = Field(ge=0, le=1)
    relevance: float = Field(
        ge=0, le=1, description="How likely the block is about the query at all."
    )
    occurred_at: UtcInstant
    speaker: str | None
    session_id: str | None
    source: str | None
    title: str | None


class CitationBody(BaseModel):
    """The block that a mark such as [2] in the text cites."""

    mark: int
    block_id: UUID


class TokensBody(BaseModel):
    """The length of the text."""

    count: int
    budget: int
    counted_by: str = Field(description="The tokenizer, or `estimate` if the model's is unknown.")


class ContextContent(BaseModel):
    """The part of a response that can be cached."""

    blocks: list[ContextBlockBody]
    text: str = Field(description="Empty when nothing was found.")
    relevant: bool = Field(
        description="Whether any block reaches MEMORY_SIMILARITY_THRESHOLD. If false, nothing"
        " relevant is stored and the blocks are only the nearest matches."
    )
    citations: list[CitationBody]
    synthesized_by: str | None = Field(description="null if the text quotes the blocks.")


class ContextCircumstances(BaseModel):
    """The part of a response that belongs to one request."""

    tokens: TokensBody
    cached: bool
    age_seconds: float | None = Field(description="Age of a cached context.")
    degraded: list[str] = Field(description="What was skipped, so that results may be worse.")
    timings: dict[str, float] = Field(description="Milliseconds per stage.")


class ContextResponse(
    ContextCircumstances, ContextContent
):  # the fields of the last base come first
    """The blocks that matter, best first, and a text that can be put into a prompt."""


class CacheStatsBody(BaseModel):
    """Statistics of the context cache."""

    connected: bool
    keys_count: int | None = Field(
        description="Keys in the Redis database, or in this process; null if Redis is unavailable."
    )
    memory_used: Annotated[str | None, Field(description="In Redis' format, for example 2.45M.")]
    memory_used_bytes: int | None
    backend: Literal["redis", "memory"]
    hits: int | None = Field(description="All API processes, last 24 hours.")
    misses: int | None
    hit_rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="null without reads, or if the database is unavailable."
    )
