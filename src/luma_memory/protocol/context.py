"""Contexts on the wire, and what the cache says of itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.protocol.validation import Name, Query

BLOCKS_MAX = 200
TOKEN_BUDGET_MIN = 50
TOKEN_BUDGET_MAX = 100_000
TIMEOUT_MS_MIN = 10
TIMEOUT_MS_MAX = 60_000
TIMEOUT_MS_DEFAULT = 10_000


class ContextBody(BaseModel):
    """A question whose context is wanted."""

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
        description="At most MEMORY_MAX_CONTEXT_BLOCKS, which it is when left out.",
    )
    token_budget: int | None = Field(
        None,
        ge=TOKEN_BUDGET_MIN,
        le=TOKEN_BUDGET_MAX,
        description="Tokens of `text` at most; MEMORY_CONTEXT_TOKEN_BUDGET when left out.",
    )
    synthesize: bool = Field(
        True, description="Let a model write the text, where one is configured and allowed."
    )
    relevant_only: bool = Field(
        False, description="Leave out blocks that do not reach MEMORY_SIMILARITY_THRESHOLD."
    )
    timeout_ms: int = Field(TIMEOUT_MS_DEFAULT, ge=TIMEOUT_MS_MIN, le=TIMEOUT_MS_MAX)


class ContextBlockBody(BaseModel):
    """A block as far as it is part of the context."""

    id: UUID
    content: str
    cut: bool = Field(description="`content` is the best passage of a longer block.")
    score: float = Field(ge=0, le=1)
    relevance: float = Field(
        ge=0, le=1, description="Whether the block is about the question at all."
    )
    occurred_at: datetime
    speaker: str | None
    session_id: str | None
    source: str | None
    title: str | None


class CitationBody(BaseModel):
    """What a mark such as [2] in the text stands for."""

    mark: int
    block_id: UUID


class TokensBody(BaseModel):
    """How long the text is."""

    count: int
    budget: int
    counted_by: str = Field(description="The tokenizer; `estimate` where it is not known here.")


class ContextContent(BaseModel):
    """What an answer says, whoever asks for it again."""

    blocks: list[ContextBlockBody]
    text: str = Field(description="Empty when nothing was found.")
    relevant: bool = Field(
        description="Whether any block found reaches MEMORY_SIMILARITY_THRESHOLD. false: nothing"
        " relevant is stored; the blocks are only the nearest there is."
    )
    citations: list[CitationBody]
    synthesized_by: str | None = Field(description="null: the text quotes the blocks.")


class ContextCircumstances(BaseModel):
    """What is true of one asking only."""

    tokens: TokensBody
    cached: bool
    age_seconds: float | None = Field(description="Since a cached answer was computed.")
    degraded: list[str] = Field(description="What was left out and why the answer may be poorer.")
    timings: dict[str, float] = Field(description="Milliseconds by stage.")


class ContextResponse(
    ContextCircumstances, ContextContent
):  # the fields of the last base come first
    """The blocks that matter, best first, and a text that can be put into a prompt."""


class CacheStatsBody(BaseModel):
    """The context cache in numbers."""

    connected: bool
    keys_count: int | None = Field(
        description="Keys of the Redis database, or of this process; null when it is away."
    )
    memory_used: Annotated[str | None, Field(description="As Redis tells it, for example 2.45M.")]
    memory_used_bytes: int | None
    backend: Literal["redis", "memory"]
    hits: int | None = Field(description="Of all API processes in the last 24 hours.")
    misses: int | None
    hit_rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="null without reads, or when the database is away."
    )
