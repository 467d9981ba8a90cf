"""Context: a question in, the blocks that matter and a text for a prompt out."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import SYSTEM_DISABLED, ProtectedRoute, caller_of, permission
from luma_memory.api.services import service_of
from luma_memory.api.wire import context_request
from luma_memory.protocol.context import ContextBody, ContextResponse

CONTEXT_BYTES_MAX = 200_000

PROBE_HEADER = "Memory-Probe"
_PROBE_PARAMETER = {
    "name": PROBE_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "`true`: the question of a monitor or a test; the hit rate does not count it.",
}

router = APIRouter(prefix="/context", tags=["recall"], route_class=ProtectedRoute)


@router.post(
    "",
    response_model=ContextResponse,
    responses=RESPONSES,
    max_body_size=CONTEXT_BYTES_MAX,
    openapi_extra={
        **permission("read")["openapi_extra"],
        "parameters": [_PROBE_PARAMETER],
    },
)
async def get_context(body: ContextBody, request: Request) -> Response:
    """The user's blocks that matter for the question, within a budget of tokens.

    Served from the cache where nothing of the user changed since; never stale. Stored text is
    quoted as data.
    """
    # Not by dependencies: solving them is a tenth of answering from the cache.
    service, contexts = service_of(request), request.app.state.rendered
    is_probe = request.headers.get(PROBE_HEADER) == "true"
    asked = context_request(
        body, caller=caller_of(request), settings=service.settings, is_probe=is_probe
    )
    answer = await service.contexts.get_context(asked)
    if not service.settings.system_enabled:
        answer = replace(answer, degraded=[*answer.degraded, SYSTEM_DISABLED])
    told = contexts.render(answer, asked, counted_by=service.contexts.counted_by)
    return Response(told, media_type="application/json")
