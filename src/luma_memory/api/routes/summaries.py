"""Weekly summaries: list them, write one now."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from luma_memory.api.problems import RESPONSES, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.bootstrap.service import Service
from luma_memory.domain.errors import NotFound, UnavailableError
from luma_memory.domain.weeks import monday_of
from luma_memory.pipeline.knowledge.summarize import Summaries
from luma_memory.protocol.summaries import (
    NewSummaryBody,
    SummaryBody,
    SummaryPageBody,
    WeekName,
)
from luma_memory.protocol.validation import Name

PAGE_SUMMARIES_MAX = 200
REQUEST_BYTES_MAX = 10_000

router = APIRouter(prefix="/summaries", tags=["summaries"], route_class=ProtectedRoute)
_EMPTY_WEEK = problem_document("The user has no active blocks in that week.")


@router.get("", responses=RESPONSES, **permission("read"))
async def list_summaries(
    user_id: Name,
    service: ServiceDep,
    caller: CallerDep,
    since: Annotated[
        WeekName | None, Query(description="The first week, or a day in it.", examples=["2026-W10"])
    ] = None,
    until: Annotated[
        WeekName | None, Query(description="The last week, or a day in it.", examples=["2026-W12"])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_SUMMARIES_MAX)] = 20,
    cursor: Name | None = None,
) -> SummaryPageBody:
    """A user's weekly summaries, the newest week first."""
    scope = caller.scope(user_id)
    first = None if since is None else monday_of(since)
    last = None if until is None else monday_of(until)
    owner = (scope.project_id, scope.user_id, "summaries", since, until)
    before = service.cursors.number(cursor, owner=owner) if cursor else None
    page = await _summaries(service).page(
        scope,
        limit=limit,
        before=None if before is None else date.fromordinal(before),
        first=first,
        last=last,
    )
    end = page.next_before
    return SummaryPageBody(
        summaries=[SummaryBody.of(summary) for summary in page.summaries],
        next_cursor=service.cursors.after_number(end.toordinal(), owner=owner) if end else None,
    )


@router.post(
    "",
    status_code=201,
    responses={**RESPONSES, 404: _EMPTY_WEEK},
    max_body_size=REQUEST_BYTES_MAX,
    **permission("ingest"),
)
async def make_summary(body: NewSummaryBody, service: ServiceDep, caller: CallerDep) -> SummaryBody:
    """Summarize a week now, replacing an existing summary; the current week is allowed too.

    The response quotes blocks, so this also requires the permission `read`.
    """
    caller.check_may("read")
    summary = await _summaries(service).make(caller.scope(body.user_id), body.week_start)
    if summary is None:
        raise NotFound("The user has no active blocks in that week", code="week_empty")
    return SummaryBody.of(summary)


def _summaries(service: Service) -> Summaries:
    if service.summaries is None:
        raise UnavailableError("Weekly summaries are switched off", code="summaries_disabled")
    return service.summaries
