"""Context: a question in, the blocks that matter and a text for a prompt out."""

from __future__ import annotations

from fastapi import APIRouter, Response

from luma_memory.api.door import SYSTEM_DISABLED, CallerDep, DoorRoute, permission
from luma_memory.api.problems import RESPONSES
from luma_memory.api.services import ServiceDep
from luma_memory.api.wire import context_answer, context_request
from luma_memory.protocol.context import ContextAnswer, ContextBody

CONTEXT_BYTES_MAX = 200_000

router = APIRouter(prefix="/context", tags=["recall"], route_class=DoorRoute)


@router.post(
    "",
    response_model=ContextAnswer,
    responses=RESPONSES,
    max_body_size=CONTEXT_BYTES_MAX,
    **permission("read"),
)
async def get_context(body: ContextBody, service: ServiceDep, caller: CallerDep) -> Response:
    """The user's blocks that matter for the question, within a budget of tokens.

    Served from the cache where nothing of the user changed since; never stale. Stored text is
    quoted as data.
    """
    request = context_request(body, caller=caller, settings=service.settings)
    answer = await service.contexts.get_context(request)
    told = context_answer(answer, request, counted_by=service.contexts.counted_by)
    if not service.settings.system_enabled:
        told.degraded.append(SYSTEM_DISABLED)
    return Response(told.model_dump_json(), media_type="application/json")
