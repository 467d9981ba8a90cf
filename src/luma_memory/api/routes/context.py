"""Context: takes a query, returns the relevant blocks and a text for a prompt."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from luma_memory.api.direct import json_body, shortcut
from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import SYSTEM_DISABLED, ProtectedRoute, caller_of, permission
from luma_memory.api.services import service_of
from luma_memory.api.strict_json import StrictRequest
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.protocol.context import ContextBody, ContextResponse
from luma_memory.protocol.mapping import context_request

CONTEXT_BYTES_MAX = 200_000

PROBE_HEADER = "Memory-Probe"
_PROBE_PARAMETER = {
    "name": PROBE_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "`true`: sent by a monitor or a test, and not counted in the hit rate.",
}

router = APIRouter(prefix="/context", tags=["recall"], route_class=ProtectedRoute)


async def _get(request: StrictRequest, _caller: Caller, _service: Service) -> Response | None:
    body = await json_body(request, ContextBody)
    return None if body is None else await get_context(body, request)


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
@shortcut(_get)
async def get_context(body: ContextBody, request: Request) -> Response:
    """The user's blocks that are relevant to the query, within a token budget.

    Served from the cache if the user's memory has not changed; never stale. Stored text is quoted
    as data.
    """
    # Without dependencies: resolving them is a tenth of the cost of a cache hit.
    service, contexts = service_of(request), request.app.state.rendered
    is_probe = request.headers.get(PROBE_HEADER) == "true"
    context_query = context_request(
        body,
        caller=caller_of(request),
        blocks_max=service.settings.max_context_blocks,
        token_budget=service.settings.context_token_budget,
        is_probe=is_probe,
    )
    result = await service.contexts.get_context(context_query)
    if not service.settings.system_enabled:
        result = replace(result, degraded=[*result.degraded, SYSTEM_DISABLED])
    document = contexts.render(result, context_query, counted_by=service.contexts.counted_by)
    return Response(document, media_type="application/json")
