"""The queue: list, retry and cancel jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from luma_memory.api.problems import RESPONSES, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.errors import Invalid
from luma_memory.domain.job import JOB_ID_MAX, OPEN, ErrorClass, JobFilter, JobStatus, JobType
from luma_memory.protocol.jobs import (
    CancelBody,
    CancelResponse,
    JobBody,
    JobPageBody,
    JobStatsBody,
    PauseBody,
    PausedResponse,
    RetryBody,
    RetryResponse,
)
from luma_memory.protocol.validation import Instant, Name

PAGE_JOBS_MAX = 200
# A thousand ids of twenty characters each, and the filters.
RETRY_BYTES_MAX = 100_000
PAUSE_BYTES_MAX = 1_000

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=ProtectedRoute)
_ONE = {**RESPONSES, 404: problem_document("There is no such job of this project and user.")}
_CHANGED = {**_ONE, 409: problem_document("The job's status does not allow it; see `code`.")}


async def _one_job(
    caller: CallerDep,
    job_id: Annotated[int, Path(ge=1, le=JOB_ID_MAX)],
    user_id: Annotated[Name | None, Query(description="Require a job of this user.")] = None,
) -> JobFilter:
    return JobFilter(project_id=caller.project_id, user_id=caller.narrowed(user_id), ids=[job_id])


OneJobDep = Annotated[JobFilter, Depends(_one_job)]


@router.get("", responses=RESPONSES, **permission("read"))
async def list_jobs(
    service: ServiceDep,
    caller: CallerDep,
    status: JobStatus | None = None,
    job_type: JobType | None = None,
    user_id: Name | None = None,
    error_class: ErrorClass | None = None,
    created_after: Instant | None = None,
    created_before: Instant | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_JOBS_MAX)] = 50,
    cursor: Name | None = None,
) -> JobPageBody:
    """Jobs, newest first."""
    which = JobFilter(
        project_id=caller.project_id,
        user_id=caller.narrowed(user_id),
        job_type=job_type,
        error_class=error_class,
        created_after=created_after,
        created_before=created_before,
    )
    owner = (which.project_id, which.user_id, "jobs")
    if cursor:
        which = replace(which, below_id=service.cursors.number(cursor, owner=owner))
    page = await service.jobs.page(which, status=status, limit=limit)
    return JobPageBody(
        jobs=[JobBody.of(job) for job in page.jobs],
        next_cursor=(
            service.cursors.after_number(page.next_below, owner=owner) if page.next_below else None
        ),
    )


# Before the routes with an id in their path, which would match `stats` as an id.
@router.get("/stats", responses=RESPONSES, **permission("read"))
async def job_stats(service: ServiceDep, caller: CallerDep) -> JobStatsBody:
    """Statistics of the queue, as in health; the cost does not grow with the number of jobs."""
    caller.check_sees_installation()
    return JobStatsBody.of(await service.jobs.stats())


@router.post("/retry", responses=RESPONSES, max_body_size=RETRY_BYTES_MAX, **permission("admin"))
async def retry_jobs(body: RetryBody, service: ServiceDep, caller: CallerDep) -> RetryResponse:
    """Retry failed jobs from their first attempt, oldest first."""
    which = JobFilter(
        project_id=caller.project_id,
        user_id=caller.narrowed(body.user_id),
        ids=body.ids,
        job_type=body.job_type,
        error_class=body.error_class,
        finished_after=body.failed_after,
        finished_before=body.failed_before,
        created_after=body.created_after,
        created_before=body.created_before,
    )
    _check_named(which, body)
    if body.dry_run:
        matched = await service.jobs.count_retryable(which)
        return RetryResponse(retried=0, ids=[], more=False, dry_run=True, matched=matched)
    retried = await service.jobs.retry(which, limit=body.limit)
    return RetryResponse(retried=len(retried), ids=list(retried), more=len(retried) == body.limit)


@router.post("/cancel", responses=RESPONSES, max_body_size=RETRY_BYTES_MAX, **permission("admin"))
async def cancel_jobs(body: CancelBody, service: ServiceDep, caller: CallerDep) -> CancelResponse:
    """Cancel jobs that have not ended, oldest first; results of running ones are discarded.

    A block whose job is cancelled stays as it is, found by its words.
    """
    which = JobFilter(
        project_id=caller.project_id,
        user_id=caller.narrowed(body.user_id),
        ids=body.ids,
        job_type=body.job_type,
        error_class=body.error_class,
        created_after=body.created_after,
        created_before=body.created_before,
    )
    statuses = OPEN if body.status is None else (body.status,)
    if body.status is None:
        _check_named(which, body)
    if body.dry_run:
        matched = await service.jobs.count(which, statuses=statuses)
        return CancelResponse(cancelled=0, ids=[], more=False, dry_run=True, matched=matched)
    ids = await service.jobs.cancel(which, limit=body.limit, statuses=statuses)
    return CancelResponse(cancelled=len(ids), ids=list(ids), more=len(ids) == body.limit)


def _check_named(which: JobFilter, body: RetryBody | CancelBody) -> None:
    if not (which.narrows or body.all):
        raise Invalid(
            "Name the jobs: give at least one filter, or `all: true`", code="filter_missing"
        )


@router.post("/pause", responses=RESPONSES, max_body_size=PAUSE_BYTES_MAX, **permission("admin"))
async def pause_jobs(body: PauseBody, service: ServiceDep, caller: CallerDep) -> PausedResponse:
    """Stop workers from claiming jobs of a type, or any job, of all projects.

    Running jobs end; blocks are accepted and searchable by words. Repeating it changes nothing.
    """
    caller.check_operates_installation()
    return PausedResponse(paused=list(await service.jobs.pause(body.job_type)))


@router.post("/resume", responses=RESPONSES, max_body_size=PAUSE_BYTES_MAX, **permission("admin"))
async def resume_jobs(body: PauseBody, service: ServiceDep, caller: CallerDep) -> PausedResponse:
    """Let workers claim jobs of a type again, or everything that was paused."""
    caller.check_operates_installation()
    return PausedResponse(paused=list(await service.jobs.resume(body.job_type)))


@router.get("/{job_id}", responses=_ONE, **permission("read"))
async def read_job(which: OneJobDep, service: ServiceDep) -> JobBody:
    """One job. Another project's job is reported as not found."""
    return JobBody.of(await service.jobs.one(which))


@router.post("/{job_id}/retry", responses=_CHANGED, **permission("admin"))
async def retry_job(which: OneJobDep, service: ServiceDep) -> JobBody:
    """Retry a failed or cancelled job; a pending or running one is left unchanged."""
    return JobBody.of(await service.jobs.retry_one(which))


@router.post("/{job_id}/cancel", responses=_CHANGED, **permission("admin"))
async def cancel_job(which: OneJobDep, service: ServiceDep) -> JobBody:
    """Cancel a job that has not ended; the result of a running one is discarded."""
    return JobBody.of(await service.jobs.cancel_one(which))
