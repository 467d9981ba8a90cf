"""Who calls, and what became of an add."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from luma_memory.api.mem0.events import event, read_event_id
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.errors import NotFound
from luma_memory.domain.job import JobFilter

router = APIRouter(tags=["status"], route_class=ProtectedRoute)
ORGANIZATION: Final = "luma-memory"


@router.get("/v1/ping/", **permission("any"))
async def ping(caller: CallerDep) -> Response:
    """Whether the key is valid, and its project."""
    return JSONResponse(
        {
            "status": "ok",
            "org_id": ORGANIZATION,
            "project_id": caller.project_id,
            "user_email": None,
        }
    )


@router.get("/v1/event/{event_id}/", **permission("read"))
async def read_event(event_id: str, service: ServiceDep, caller: CallerDep) -> Response:
    """What became of an add: PENDING, RUNNING, SUCCEEDED or FAILED."""
    parsed = read_event_id(event_id)
    if parsed is None:
        raise NotFound("There is no such event", code="event_not_found")
    user_id, ids = parsed
    scope = caller.scope(user_id)
    found = await service.lists.find(scope.project_id, ids, user_id=scope.user_id)
    blocks = [block for block in found if block is not None]
    if not blocks:
        raise NotFound("There is no such event", code="event_not_found")
    jobs = [block.job_id for block in blocks if block.status == "pending_enrichment"]
    page = await service.jobs.page(
        JobFilter(
            project_id=caller.project_id,
            user_id=scope.user_id,
            ids=[job_id for job_id in jobs if job_id is not None],
        ),
        status=None,
        limit=len(jobs) or 1,
    )
    return JSONResponse(event(event_id, blocks, page.jobs))
