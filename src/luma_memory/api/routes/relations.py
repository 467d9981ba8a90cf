"""Relations: list them, accept or reject one."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from luma_memory.api.problems import RESPONSES, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.relation import RelationStatus, RelationType
from luma_memory.protocol.relations import RelationBody, RelationEditBody, RelationPageBody
from luma_memory.protocol.validation import Name

PAGE_RELATIONS_MAX = 200
DECISION_BYTES_MAX = 10_000

router = APIRouter(prefix="/relations", tags=["relations"], route_class=ProtectedRoute)
ONE_RELATION = {**RESPONSES, 404: problem_document("There is no such relation of this user.")}


@router.get("", responses=RESPONSES, **permission("read"))
async def list_relations(
    user_id: Name,
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=PAGE_RELATIONS_MAX)] = 50,
    cursor: Name | None = None,
    type: RelationType | None = None,  # noqa: A002 - the wire's name
    status: RelationStatus | None = None,
) -> RelationPageBody:
    """A user's relations, newest first."""
    scope = caller.scope(user_id)
    owner = (scope.project_id, scope.user_id, "relations")
    page = await service.relations.page(
        scope,
        limit=limit,
        before=service.cursors.block(cursor, owner=owner) if cursor else None,
        relation_type=type,
        status=status,
    )
    return RelationPageBody(
        relations=[RelationBody.of(relation) for relation in page.relations],
        next_cursor=(
            service.cursors.after_block(page.next_before, owner=owner) if page.next_before else None
        ),
    )


@router.patch(
    "/{relation_id}",
    responses=ONE_RELATION,
    max_body_size=DECISION_BYTES_MAX,
    **permission("ingest"),
)
async def decide_relation(
    relation_id: UUID,
    user_id: Name,
    body: RelationEditBody,
    service: ServiceDep,
    caller: CallerDep,
) -> RelationBody:
    """Accept or reject a relation permanently: later detection does not change the decision.

    Rejecting a `supersedes` or `contradicts` returns the older block to recall, accepting one
    removes it. The response is the relation, so this also requires the permission `read`.
    """
    caller.check_may("read")
    relation = await service.relations.decide(
        caller.scope(user_id), relation_id, body.status, decided_by=caller.name
    )
    return RelationBody.of(relation)
