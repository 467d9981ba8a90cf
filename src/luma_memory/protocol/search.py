"""Search on the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.protocol.blocks import BlockBody
from luma_memory.protocol.gate import Name, Query

LIMIT_MAX = 200


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
    explain: bool = Field(False, description="Say how each score came about.")


class SearchHitBody(BaseModel):
    """One block that answers the question."""

    block: BlockBody
    score: float = Field(ge=0, le=1)
    explanation: dict[str, float | int | str | None] | None = None


class SearchAnswer(BaseModel):
    """Blocks, best first."""

    results: list[SearchHitBody]
    degraded: list[str] = Field(description="What was left out and why the answer may be poorer.")
    timings_ms: dict[str, float]
