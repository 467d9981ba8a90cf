"""Entities: the users, agents, applications and runs that have memories."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_OID, uuid5

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from luma_memory.api.mem0.owners import Kind, Owner, scope_of
from luma_memory.api.mem0.queries import PAGE_SIZE, PageNumber, PageSize, page_links
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.ports.block_lists import BlockGroup
from luma_memory.protocol.validation import Name

router = APIRouter(tags=["entities"], route_class=ProtectedRoute)
_erasing = permission("admin", remembered=False)


@router.get("/v1/entities/", **permission("read"))
async def list_entities(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    page: PageNumber = 1,
    page_size: PageSize = PAGE_SIZE,
) -> Response:
    """Users, agents, applications and runs, in numbered pages. Reads every block of the project."""
    found = await service.lists.groups(
        caller.project_id, user_id=caller.user_id, offset=(page - 1) * page_size, limit=page_size
    )
    results = [_entity(group, caller.project_id) for group in found.groups]
    links = page_links(request, page, page_size, count=found.count)
    return JSONResponse({"count": found.count, **links, "results": results})


@router.delete("/v2/entities/{entity_type}/{entity_id}/", **_erasing)
@router.delete("/v1/entities/{entity_type}/{entity_id}/", **_erasing)
async def delete_entity(
    entity_type: Kind, entity_id: Name, service: ServiceDep, caller: CallerDep
) -> Response:
    """Erase a user with all data, or delete all memories of an agent, an application or a run.

    An unknown one responds alike, so that an interrupted deletion of all entities can be repeated.
    """
    deleted = 0
    if entity_type != "user":
        deleted = await service.lists.delete_group(
            caller.project_id, entity_type, entity_id, user_id=caller.user_id
        )
    if entity_type == "user" or caller.user_id is None:
        scope = scope_of(Owner(entity_type, entity_id), caller)
        receipt = await service.erasing.erase(scope, key=None)
        deleted += receipt.erasure.counts.get("blocks", 0)
    return JSONResponse({"message": "Entity deleted successfully!", "deleted": deleted})


def _entity(group: BlockGroup, project_id: str) -> dict[str, Any]:
    return {
        "id": str(uuid5(NAMESPACE_OID, f"{project_id}/{group.kind}/{group.name}")),
        "name": group.name,
        "type": group.kind,
        "total_memories": group.block_count,
        "owner": project_id,
        "metadata": None,
        "created_at": group.first_at.isoformat(),
        "updated_at": group.last_at.isoformat(),
    }
