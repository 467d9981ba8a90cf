"""Errors on the wire: RFC 9457 problem details with a stable code, one shape for all routes."""

from __future__ import annotations

from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """An invalid part of the request."""

    field: str = Field(description="Dotted path, for example metadata.tags or blocks.3.content.")
    code: str
    detail: str


class Problem(BaseModel):
    """An error response. `code` is stable; texts may change."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] = Field(default_factory=list)
    request_id: str | None = None
