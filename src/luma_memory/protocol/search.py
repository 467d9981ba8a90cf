"""Search on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.search import Ranking
from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.validation import Instant, Name, Query

LIMIT_MAX = 200
TIMEOUT_MS_MAX = 60_000


class SearchBody(BaseModel):
    """A question to one user's blocks."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"user_id": "user-42", "query": "Where does Ana live now?", "limit": 5}]
        },
    )

    user_id: Name
    query: Query
    limit: int = Field(10, ge=1, le=LIMIT_MAX)
    filters: dict[str, Any] | None = Field(
        None,
        description="Which blocks may answer: fields with a value, a list or operators (eq, ne, gt,"
        " gte, lt, lte, in, nin, contains, exists), and AND, OR, NOT. See docs/recall.md.",
        examples=[{"source": "slack", "NOT": {"tags": "draft"}}],
    )
    as_of: Instant | None = Field(
        None, description="Answer as the scope stood then, by the blocks' own times."
    )
    include_superseded: bool = Field(False, description="Blocks that a later one replaced, too.")
    timeout_ms: int | None = Field(
        None,
        ge=1,
        le=TIMEOUT_MS_MAX,
        description="What is not ready by then is left out and named in `degraded`.",
    )
    ranking: Ranking = Field(
        "fused", description="The others are plain retrievers, to compare with."
    )
    relevant_only: bool = Field(
        False, description="Leave out results that do not reach MEMORY_SIMILARITY_THRESHOLD."
    )
    use_relations: bool = Field(
        True, description="false: rank as if no block were related to another, fold nothing."
    )
    explain: bool = Field(False, description="Say how each score came about.")


class SearchHitBody(BaseModel):
    """One block that answers the question."""

    block: BlockBody
    score: float = Field(ge=0, le=1, description="Ranks; says little by itself.")
    relevance: float = Field(
        ge=0,
        le=1,
        description="Whether the block is about the question at all: near 0 is not, and 0.75 is"
        " likely. Means the same for every embedding model.",
    )
    explanation: dict[str, float | int | str | None] | None = None


class SearchResponse(BaseModel):
    """Blocks, best first."""

    results: list[SearchHitBody]
    relevant: bool = Field(
        description="Whether any result reaches MEMORY_SIMILARITY_THRESHOLD. false: nothing"
        " relevant is stored; the results are only the nearest there is."
    )
    degraded: list[str] = Field(description="What was left out and why the answer may be poorer.")
    timings_ms: dict[str, float]
