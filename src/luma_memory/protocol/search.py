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
    """A query over one user's blocks."""

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
        description="Restricts the blocks searched: fields with a value, a list or operators (eq,"
        " ne, gt, gte, lt, lte, in, nin, contains, exists), and AND, OR, NOT. See docs/recall.md.",
        examples=[{"source": "slack", "NOT": {"tags": "draft"}}],
    )
    as_of: Instant | None = Field(
        None, description="Search the scope as of this instant, by the blocks' own times."
    )
    include_superseded: bool = Field(False, description="Include blocks that a later one replaced.")
    include_items: bool = Field(False, description="Include items, see POST /items/search.")
    timeout_ms: int | None = Field(
        None,
        ge=1,
        le=TIMEOUT_MS_MAX,
        description="Stages that are not ready by then are skipped and named in `degraded`.",
    )
    ranking: Ranking = Field(
        "fused", description="The other values are single retrievers, for comparison."
    )
    relevant_only: bool = Field(
        False, description="Omit results below MEMORY_SIMILARITY_THRESHOLD."
    )
    use_relations: bool = Field(
        True, description="If false, relations neither raise scores nor fold duplicates."
    )
    explain: bool = Field(False, description="Return the parts of each score.")


class SearchHitBody(BaseModel):
    """One matching block."""

    block: BlockBody
    score: float = Field(ge=0, le=1, description="For ranking only; not comparable across queries.")
    relevance: float = Field(
        ge=0,
        le=1,
        description="How likely the block is about the query at all: unlikely near 0, likely from"
        " 0.75. Comparable across embedding models.",
    )
    explanation: dict[str, float | int | str | None] | None = None


class SearchResponse(BaseModel):
    """Blocks, best first."""

    results: list[SearchHitBody]
    relevant: bool = Field(
        description="Whether any result reaches MEMORY_SIMILARITY_THRESHOLD. If false, nothing"
        " relevant is stored and the results are only the nearest matches."
    )
    degraded: list[str] = Field(description="What was skipped, so that results may be worse.")
    timings_ms: dict[str, float]
