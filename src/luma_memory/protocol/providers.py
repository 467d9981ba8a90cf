"""Model providers on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from luma_memory.domain.circuit import CircuitReport, CircuitState


class ProviderErrorBody(BaseModel):
    """How a call failed, without anything that was sent or received."""

    code: str | None
    detail: str | None
    at: datetime | None


class ProviderBody(BaseModel):
    """The state of a model provider, shared by all processes."""

    provider: str = Field(description="Its model and address, without the account.")
    configured: bool = Field(description="Whether this process calls it.")
    state: CircuitState = Field(
        description="closed: it is called; limited: it asked to wait; away: it fails; refused: it"
        " refuses the account."
    )
    since: datetime | None = Field(description="Of the first failure, or of the change of state.")
    failures: int = Field(description="Consecutive failures.")
    retry_at: datetime | None = Field(description="When one call tries again.")
    last_error: ProviderErrorBody | None = Field(description="Kept after later calls succeed.")

    @classmethod
    def of(cls, report: CircuitReport, *, configured: bool) -> ProviderBody:
        error = None
        if report.last_failed_at is not None:
            error = ProviderErrorBody(
                code=report.last_code, detail=report.last_reason, at=report.last_failed_at
            )
        return cls(
            provider=report.name.partition(" @")[0],
            configured=configured,
            state=report.state,
            since=report.since,
            failures=report.failures,
            retry_at=report.retry_at,
            last_error=error,
        )


class ProviderListBody(BaseModel):
    """Providers, those of this configuration first."""

    providers: list[ProviderBody]
