"""Jobs on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from luma_memory.domain.job import (
    AttemptError,
    ErrorClass,
    JobRecord,
    JobStats,
    JobStatus,
    JobType,
    Paused,
)
from luma_memory.protocol.validation import Instant, Name

# One statement of some tens of milliseconds.
BULK_JOBS_MAX = 1_000
# The largest integer that every JSON parser represents exactly; the column never exceeds it.
JobId = Annotated[int, Field(ge=1, le=2**53 - 1)]
OpenStatus = Literal["pending", "processing"]


class AttemptErrorBody(BaseModel):
    """How a failed attempt of a job ended."""

    attempt: int = Field(description="Counted from 1; again from 1 after a retry.")
    at: datetime
    worker: str | None
    error_class: ErrorClass | None
    message: str

    @classmethod
    def of(cls, error: AttemptError) -> AttemptErrorBody:
        return cls(
            attempt=error.attempt,
            at=error.at,
            worker=error.worker,
            error_class=error.error_class,
            message=error.message,
        )


class JobBody(BaseModel):
    """A stored job. A failed one carries its error class and message, attempts, time and worker."""

    id: int
    project_id: str
    user_id: str
    block_id: UUID | None
    job_type: JobType
    payload: dict[str, Any] = Field(
        description="Of a backfill: `backfill`, the steps that the block lacks."
    )
    status: JobStatus
    priority: int = Field(description="Higher runs first.")
    attempts: int
    max_attempts: int
    run_at: datetime = Field(description="Earliest start.")
    fair_at: datetime | None = Field(description="Position in the queue; null while deferred.")
    locked_by: str | None = Field(description="Worker of the last attempt.")
    locked_until: datetime | None
    unique_key: str | None
    error_class: ErrorClass | None = Field(description="Of the last failed attempt.")
    last_error: str | None
    created_at: datetime
    started_at: datetime | None = Field(description="Of the last attempt.")
    finished_at: datetime | None
    attempt_errors: list[AttemptErrorBody] = Field(
        default=[], description="The last ten failed attempts, oldest first."
    )

    @classmethod
    def of(cls, job: JobRecord) -> JobBody:
        return cls(
            id=job.id,
            project_id=job.scope.project_id,
            user_id=job.scope.user_id,
            block_id=job.block_id,
            job_type=job.job_type,
            payload=dict(job.payload),
            status=job.status,
            priority=job.priority,
            attempts=job.attempts,
            max_attempts=job.max_attempts,
            run_at=job.run_at,
            fair_at=job.fair_at,
            locked_by=job.locked_by,
            locked_until=job.locked_until,
            unique_key=job.unique_key,
            error_class=job.error_class,
            last_error=job.last_error,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            attempt_errors=[AttemptErrorBody.of(error) for error in job.attempt_errors],
        )


class JobPageBody(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobBody]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")


class JobStatsBody(BaseModel):
    """Statistics of the whole queue, independent of the caller."""

    pending: int
    processing: int
    completed: int = Field(description="Since installation, including pruned jobs.")
    failed: int
    deferred: int = Field(description="Pending jobs whose run_at is in the future.")
    oldest_pending_seconds: float | None = Field(
        description="Age of the oldest job that could run."
    )
    paused: list[Paused] = Field(
        default=[], description="Job types that no worker claims; `all` is the whole queue."
    )

    @classmethod
    def of(cls, stats: JobStats) -> JobStatsBody:
        return cls(
            pending=stats.pending,
            processing=stats.processing,
            completed=stats.completed,
            failed=stats.failed,
            deferred=stats.deferred,
            oldest_pending_seconds=stats.oldest_pending_seconds,
            paused=list(stats.paused),
        )


class RetryBody(BaseModel):
    """The failed jobs to retry: at least one filter, or `all`. Filters are combined with AND."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"error_class": "provider", "failed_after": "2026-03-04T18:30:00Z"}]
        },
    )

    ids: list[JobId] | None = Field(
        None,
        max_length=BULK_JOBS_MAX,
        description="Jobs by id; the only way to retry cancelled ones.",
    )
    user_id: Name | None = None
    job_type: JobType | None = None
    error_class: ErrorClass | None = None
    failed_after: Instant | None = Field(None, description="Failed at this time or later.")
    failed_before: Instant | None = Field(None, description="Failed before this time.")
    created_after: Instant | None = None
    created_before: Instant | None = None
    all: bool = Field(False, description="Every failed job that matches the filters.")
    limit: int = Field(BULK_JOBS_MAX, ge=1, le=BULK_JOBS_MAX, description="Maximum number of jobs.")
    dry_run: bool = Field(False, description="Count only.")


class RetryResponse(BaseModel):
    """The retried jobs, oldest first."""

    retried: int
    ids: list[int]
    more: bool = Field(description="The limit was reached: repeat the request for the rest.")
    dry_run: bool = False
    matched: int | None = Field(None, description="Of a dry run: jobs that would be retried.")


class CancelBody(BaseModel):
    """The open jobs to cancel: at least one filter, or `all`. Filters are combined with AND."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"job_type": "weekly_summary", "dry_run": True}]},
    )

    ids: list[JobId] | None = Field(None, max_length=BULK_JOBS_MAX)
    user_id: Name | None = None
    job_type: JobType | None = None
    status: OpenStatus | None = Field(None, description="null: pending and running jobs.")
    error_class: ErrorClass | None = Field(None, description="Of the last failed attempt.")
    created_after: Instant | None = None
    created_before: Instant | None = None
    all: bool = Field(False, description="Every open job that matches the filters.")
    limit: int = Field(BULK_JOBS_MAX, ge=1, le=BULK_JOBS_MAX, description="Maximum number of jobs.")
    dry_run: bool = Field(False, description="Count only.")


class CancelResponse(BaseModel):
    """The cancelled jobs, oldest first."""

    cancelled: int
    ids: list[int]
    more: bool = Field(description="The limit was reached: repeat the request for the rest.")
    dry_run: bool = False
    matched: int | None = Field(None, description="Of a dry run: jobs that would be cancelled.")


class PauseBody(BaseModel):
    """What to pause or resume."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"job_type": "weekly_summary"}]}
    )

    job_type: JobType | None = Field(
        None, description="Jobs of this type; null: pause the whole queue, or resume everything."
    )


class PausedResponse(BaseModel):
    """What no worker claims now."""

    paused: list[Paused]
