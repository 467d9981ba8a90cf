"""Search: takes a query, returns the relevant blocks."""

from __future__ import annotations

from fastapi import APIRouter, Response

from luma_memory.api.direct import json_body, shortcut
from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import SYSTEM_DISABLED, CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.api.strict_json import StrictRequest
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.filters import parse_filter
from luma_memory.domain.search import EVERY_ITEM
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.protocol.mapping import search_response
from luma_memory.protocol.search import SearchBody, SearchResponse

SEARCH_BYTES_MAX = 200_000

router = APIRouter(prefix="/search", tags=["recall"], route_class=ProtectedRoute)


async def _search(request: StrictRequest, caller: Caller, service: Service) -> Response | None:
    body = await json_body(request, SearchBody)
    return None if body is None else await search(body, service, caller)


@router.post(
    "",
    response_model=SearchResponse,
    responses=RESPONSES,
    max_body_size=SEARCH_BYTES_MAX,
    **permission("read"),
)
@shortcut(_search)
async def search(body: SearchBody, service: ServiceDep, caller: CallerDep) -> Response:
    """Rank the user's blocks by meaning and by terms, including blocks not yet enriched."""
    result = await service.recall.search(
        SearchRequest(
            scope=caller.scope(body.user_id),
            query=body.query,
            limit=body.limit,
            filters=None if body.filters is None else parse_filter(body.filters),
            as_of=body.as_of,
            include_superseded=body.include_superseded,
            items=EVERY_ITEM if body.include_items else None,
            timeout_ms=body.timeout_ms,
            ranking=body.ranking,
            relevant_only=body.relevant_only,
            use_relations=body.use_relations,
            explain=body.explain,
        )
    )
    response = search_response(result)
    if not service.settings.system_enabled:
        response.degraded.append(SYSTEM_DISABLED)
    return Response(response.model_dump_json(), media_type="application/json")
