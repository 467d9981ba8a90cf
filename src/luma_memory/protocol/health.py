"""Health on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class QueueStatsBody(BaseModel):
    """Jobs by status."""

    pending: int
    processing: int
    completed: int
    failed: int


class CacheHealthBody(BaseModel):
    connected: bool
    hit_rate: float | None = Field(description="0..1 over the last 24 hours; null without reads.")


class FeaturesBody(BaseModel):
    """Features enabled in the responding process."""

    worker: bool = Field(description="false: blocks are enriched before the response.")
    enrichment: bool
    embedding: bool
    relations: bool
    synthesis: bool
    weekly_summaries: bool


class ProviderFaultBody(BaseModel):
    """A model provider that cannot be called now."""

    provider: str = Field(description="What is called and the model: `embed gpt-…`.")
    state: str = Field(description="away, refused (key or account) or limited.")
    since: datetime
    code: str | None = Field(description="Of the error that was met, as in jobs' errors.")


class PartitionFaultBody(BaseModel):
    """A partition whose users cannot be served, or not wholly."""

    partition: int
    state: str = Field(description="serving, or paused: writes of its users wait for a moment.")
    reason: str | None = Field(description="null if it responds.")


class ReembeddingBody(BaseModel):
    """A change of the embedding model, of the whole installation."""

    model: str = Field(description="The model that all vectors will be of.")
    done: int | None = Field(
        description="Passages with a vector of it; null while they are counted the first time. A"
        " long block has several passages. Counted every few seconds."
    )
    total: int | None = Field(description="All passages.")


class HealthBody(BaseModel):
    """State of the whole system. `status` is ok, degraded or unavailable."""

    status: str
    version: str
    system_enabled: bool
    worker_running: bool
    workers: int
    queue_stats: QueueStatsBody | None = Field(description="null if the database is unavailable.")
    paused: list[str] = Field(
        default=[], description="Job types that no worker claims; `all` is the whole queue."
    )
    oldest_pending_seconds: float | None
    database: str
    cache: CacheHealthBody
    features: FeaturesBody
    providers: dict[str, str]
    provider_faults: list[ProviderFaultBody] = Field(
        default=[], description="Providers that are away, refuse, or limit; empty when all is well."
    )
    partition_faults: list[PartitionFaultBody] = Field(
        default=[],
        description="Partitions that do not respond or are paused; others are not affected.",
    )
    read_replica: Literal["used", "unused"] | None = Field(
        default=None,
        description="Whether this process reads the replica; null without one. `unused` is no fault"
        " of the service: the primary serves all reads.",
    )
    reembedding: ReembeddingBody | None = Field(
        default=None, description="null while no change of the embedding model is in progress."
    )
    uptime_seconds: int


class ReadyBody(BaseModel):
    """Whether requests can be served, and what is missing otherwise."""

    ready: bool
    missing: list[str]
