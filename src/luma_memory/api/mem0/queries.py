"""Search, list and read memories."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from luma_memory.api.direct import json_body, shortcut
from luma_memory.api.mem0 import filters
from luma_memory.api.mem0.bodies import PAGE_MAX, PAGE_SIZE_MAX, Id, ListBody, SearchBody
from luma_memory.api.mem0.memories import history, memory, only
from luma_memory.api.mem0.owners import scope_of
from luma_memory.api.routes.search import SEARCH_BYTES_MAX
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.api.strict_json import StrictRequest
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.block import Block
from luma_memory.domain.errors import NotFound
from luma_memory.domain.filters import Filter
from luma_memory.domain.revision import BlockRevision
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import SearchHit
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.ports.block_lists import BlockChoice

router = APIRouter(tags=["memories"], route_class=ProtectedRoute)
TOP_K: Final = 10
PAGE_SIZE: Final = 100
REVISIONS_MAX: Final = 1_000
_REVISIONS_AT_ONCE: Final = 200
PageNumber = Annotated[int, Query(ge=1, le=PAGE_MAX)]
PageSize = Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)]
_querying = {"max_body_size": SEARCH_BYTES_MAX, **permission("read")}


async def _searched(request: StrictRequest, caller: Caller, service: Service) -> Response | None:
    body = await json_body(request, SearchBody)
    return None if body is None else await search_memories(body, service, caller)


@router.post("/v3/memories/search/", **_querying)
@shortcut(_searched)
async def search_memories(body: SearchBody, service: ServiceDep, caller: CallerDep) -> Response:
    """Rank memories by meaning and by terms. `score` is what `threshold` is compared with."""
    return await _search(body, service, caller)


@router.post("/search", **_querying)
async def search_memories_open_source(
    body: SearchBody, service: ServiceDep, caller: CallerDep
) -> Response:
    """As above; a filter may name metadata without `metadata`, as with the open-source server."""
    return await _search(body, service, caller, metadata_at_top=True)


@router.post("/v3/memories/", **_querying)
async def list_memories(
    body: ListBody,
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    page: PageNumber = 1,
    page_size: PageSize = PAGE_SIZE,
) -> Response:
    """Memories that a filter matches, newest first, in numbered pages."""
    body.check_offered()
    choice = BlockChoice(
        chosen_scopes(body, caller),
        include_expired=bool(body.show_expired),
        include_superseded=not body.latest_only,
    )
    found = await service.lists.page(choice, offset=(page - 1) * page_size, limit=page_size)
    results = [only(memory(block), body.fields) for block in found.blocks]
    links = page_links(request, page, page_size, count=found.count)
    return JSONResponse({"count": found.count, **links, "results": results})


@router.get("/memories", **permission("read"))
async def list_memories_open_source(
    service: ServiceDep,
    caller: CallerDep,
    user_id: Id = None,
    agent_id: Id = None,
    app_id: Id = None,
    run_id: Id = None,
    top_k: PageSize | None = None,
    limit: PageSize | None = None,
) -> Response:
    """An owner's memories, newest first, as the open-source server lists them."""
    body = ListBody(user_id=user_id, agent_id=agent_id, app_id=app_id, run_id=run_id)
    choice = BlockChoice(chosen_scopes(body, caller))
    found = await service.lists.page(choice, offset=0, limit=top_k or limit or PAGE_SIZE)
    return JSONResponse({"results": [memory(block) for block in found.blocks]})


@router.get("/v1/memories/{memory_id}/", **permission("read"))
@router.get("/memories/{memory_id}", **permission("read"))
async def read_memory(memory_id: str, service: ServiceDep, caller: CallerDep) -> Response:
    """One memory. Another user's is reported as not found."""
    return JSONResponse(memory(await one_block(memory_id, service, caller)))


@router.get("/v1/memories/{memory_id}/history/", **permission("read"))
@router.get("/memories/{memory_id}/history", **permission("read"))
async def read_history(memory_id: str, service: ServiceDep, caller: CallerDep) -> Response:
    """A memory's changes, oldest first."""
    block = await one_block(memory_id, service, caller)
    return JSONResponse(history(block, await _revisions(block, service)))


async def one_block(memory_id: str, service: Service, caller: Caller) -> Block:
    """The block with this id. Raises NotFound, also for text that is no id of a block."""
    (block,) = await blocks_of([memory_id], service, caller)
    return block


async def blocks_of(memory_ids: Sequence[str], service: Service, caller: Caller) -> Sequence[Block]:
    """The blocks in order of the ids. Raises NotFound if one is missing or another user's."""
    ids = [_uuid(memory_id) for memory_id in memory_ids]
    found = await service.lists.find(caller.project_id, ids, user_id=caller.user_id)
    blocks = [block for block in found if block is not None]
    if len(blocks) < len(ids):
        missing = next(one for one, block in zip(ids, found, strict=True) if block is None)
        raise _missing(f"{missing} ") if len(ids) > 1 else _missing()
    return blocks


def chosen_scopes(
    body: ListBody, caller: Caller, *, metadata_at_top: bool = False
) -> Mapping[Scope, Filter | None]:
    """What a body asks for: scopes, each with its filter. Raises Invalid, Forbidden, NotOffered."""
    tree = filters.identified(
        body.ids, filters.parse(_document(body), metadata_at_top=metadata_at_top)
    )
    chosen: dict[Scope, Filter | None] = {}
    for owner in filters.owners(tree, caller):
        narrowing = filters.within(tree, owner)
        if not isinstance(narrowing, bool):
            chosen[scope_of(owner, caller)] = narrowing
        elif narrowing:
            chosen[scope_of(owner, caller)] = None
    return chosen


def page_links(request: Request, page: int, page_size: int, *, count: int) -> dict[str, str | None]:
    """The addresses of the pages beside this one."""

    def link(number: int) -> str:
        query = urlencode({"page": number, "page_size": page_size})
        return str(request.url.replace(query=query))

    return {
        "next": link(page + 1) if page * page_size < count else None,
        "previous": link(page - 1) if page > 1 else None,
    }


async def _search(
    body: SearchBody, service: Service, caller: Caller, *, metadata_at_top: bool = False
) -> Response:
    body.check_offered()
    chosen = chosen_scopes(body, caller, metadata_at_top=metadata_at_top)
    limit = body.top_k or body.limit or TOP_K
    searches = [
        service.recall.search(
            SearchRequest(
                scope=scope,
                query=body.query,
                limit=limit,
                filters=narrowing,
                include_superseded=body.latest_only is False,
            )
        )
        for scope, narrowing in chosen.items()
    ]
    hits = [hit for found in await asyncio.gather(*searches) for hit in found.hits]
    return JSONResponse({"results": _results(hits, body, limit)})


def _results(hits: list[SearchHit], body: SearchBody, limit: int) -> list[dict[str, Any]]:
    ranked = sorted(hits, key=lambda hit: -hit.score)[:limit]
    return [
        only(memory(hit.block, score=hit.relevance), body.fields)
        for hit in ranked
        if body.threshold is None or hit.relevance >= body.threshold
    ]


def _document(body: ListBody) -> dict[str, Any]:
    """The body's filters, with those that have a field of their own."""
    parts: list[dict[str, Any]] = [body.filters or {}]
    if body.categories:
        parts.append({"categories": {"in": body.categories}})
    if body.start_date is not None:
        parts.append({"created_at": {"gte": body.start_date}})
    if body.end_date is not None:
        parts.append({"created_at": {"lte": body.end_date}})
    return parts[0] if len(parts) == 1 else {"AND": parts}


async def _revisions(block: Block, service: Service) -> Sequence[BlockRevision]:
    found: list[BlockRevision] = []
    below: int | None = None
    while len(found) < REVISIONS_MAX:
        page = await service.editing.revisions(
            block.scope, block.id, below=below, limit=_REVISIONS_AT_ONCE
        )
        found += page.revisions
        below = page.next_below
        if below is None:
            break
    return found


def _uuid(memory_id: str) -> UUID:
    try:
        return UUID(memory_id)
    except ValueError:
        raise _missing() from None


def _missing(which: str = "") -> NotFound:
    return NotFound(f"Memory {which}not found", code="memory_not_found")
