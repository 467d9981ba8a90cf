"""Search: a question in, the blocks that matter out."""

from __future__ import annotations

from fastapi import APIRouter, Response

from luma_memory.api.problems import RESPONSES
from luma_memory.api.services import ProjectDep, ServiceDep
from luma_memory.api.strict_json import StrictJsonRoute
from luma_memory.api.wire import search_answer
from luma_memory.domain.scope import Scope
from luma_memory.protocol.search import SearchAnswer, SearchBody

SEARCH_BYTES_MAX = 200_000

router = APIRouter(prefix="/search", tags=["recall"], route_class=StrictJsonRoute)


@router.post("", response_model=SearchAnswer, responses=RESPONSES, max_body_size=SEARCH_BYTES_MAX)
async def search(body: SearchBody, service: ServiceDep, project_id: ProjectDep) -> Response:
    """Rank the user's blocks by meaning and by words; blocks not yet enriched are found too."""
    result = await service.recall.search(
        Scope(project_id, body.user_id), body.query, limit=body.limit, explain=body.explain
    )
    answer = search_answer(result)
    return Response(answer.model_dump_json(), media_type="application/json")
