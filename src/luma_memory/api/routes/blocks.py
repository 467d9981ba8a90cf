"""Memory blocks: store, read, list, edit, delete."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from luma_memory.api.batches import store_each
from luma_memory.api.entity_tags import IfMatch, entity_tag, expected_revision
from luma_memory.api.problems import RESPONSES, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.block import BlockStatus
from luma_memory.domain.errors import (
    Invalid,
    NotFound,
)
from luma_memory.protocol.blocks import (
    AcceptedBody,
    BatchBody,
    BatchResponse,
    BlockBody,
    BlockEditBody,
    BlockPageBody,
    NewBlockBody,
    RevisionPageBody,
)
from luma_memory.protocol.mapping import (
    accepted_body,
    block_bodies,
    block_body,
    new_block,
    revision_body,
)
from luma_memory.protocol.relations import RelationBody, RelationPageBody
from luma_memory.protocol.validation import Name

# A block of 100,000 characters of four bytes each, escaped twice, with its metadata.
BLOCK_BYTES_MAX = 2_000_000
BATCH_BYTES_MAX = 32_000_000
PAGE_BLOCKS_MAX = 200
# About a millisecond of validation, more for long texts.

router = APIRouter(prefix="/blocks", tags=["blocks"], route_class=ProtectedRoute)
ONE_BLOCK = {**RESPONSES, 404: problem_document("There is no such block of this user.")}
CHANGED_BLOCK = {
    **ONE_BLOCK,
    412: problem_document("The block's revision does not match If-Match."),
}
IdempotencyKey = Annotated[
    Name | None,
    Header(description="Identifies this request: repeated, it gets the same response."),
]


@router.post(
    "",
    status_code=202,
    response_model=AcceptedBody,
    responses={
        **RESPONSES,
        201: {"model": BlockBody, "description": "Stored and enriched, with wait=true."},
    },
    max_body_size=BLOCK_BYTES_MAX,
    **permission("ingest", remembered=False),
)
async def accept_block(
    body: NewBlockBody,
    service: ServiceDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
    wait: Annotated[bool, Query(description="Respond once the block is enriched.")] = False,
) -> Response:
    """Store one block; a worker enriches it. It can be read and searched immediately.

    With `wait=true` the response is the block itself, which also requires the permission `read`.
    """
    if wait:
        caller.check_may("read")
    block = new_block(body, caller=caller, header_key=idempotency_key, now=service.clock.now())
    if not (wait or not service.settings.worker_enabled):
        accepted = await service.ingest.ingest_block_async(block)
        return _json(accepted_body(accepted), 202)
    ingested = await service.ingest.ingest_block(block)
    if ingested.block.status == "pending_enrichment":
        return _json(accepted_body(ingested.accepted), 202)
    if "read" not in caller.permissions:
        return _json(accepted_body(ingested.accepted, status=ingested.block.status), 201)
    return _json(block_body(ingested.block), 201)


@router.post(
    "/batch",
    status_code=202,
    response_model=BatchResponse,
    responses=RESPONSES,
    max_body_size=BATCH_BYTES_MAX,
    **permission("ingest", remembered=False),
)
async def accept_batch(
    body: BatchBody,
    service: ServiceDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Store up to 1,000 blocks; each gets its own outcome, an invalid one does not fail the others.

    Without a worker (MEMORY_WORKER_ENABLED=false) they are enriched before the response, 201.

    With the header Idempotency-Key, each block's key combines the header and the block's position.
    """
    results = await store_each(service, caller, body.blocks, header_key=idempotency_key)
    accepted = sum(1 for result in results if result.error is None)
    response = BatchResponse(accepted=accepted, rejected=len(results) - accepted, results=results)
    return Response(
        response.model_dump_json(exclude_none=True),
        202 if service.settings.worker_enabled else 201,
        media_type="application/json",
    )


@router.get("/{block_id}", responses=ONE_BLOCK, **permission("read"))
async def read_block(
    block_id: UUID, user_id: Name, service: ServiceDep, caller: CallerDep, response: Response
) -> BlockBody:
    """One block. Another user's block is reported as not found."""
    block = await service.blocks.read_one(caller.scope(user_id), block_id)
    if block is None:
        raise NotFound("There is no such block of this user", code="block_not_found")
    response.headers["ETag"] = entity_tag(block.revision)
    return block_body(block)


@router.patch(
    "/{block_id}",
    responses=CHANGED_BLOCK,
    max_body_size=BLOCK_BYTES_MAX,
    **permission("ingest"),
)
async def edit_block(
    block_id: UUID,
    user_id: Name,
    body: BlockEditBody,
    service: ServiceDep,
    caller: CallerDep,
    response: Response,
    if_match: IfMatch = None,
) -> BlockBody:
    """Change a block. Its former state becomes a revision; a changed text is enriched again.

    The response is the block itself, so this also requires the permission `read`.
    """
    caller.check_may("read")
    scope = caller.scope(user_id)
    if not body.model_fields_set:
        raise Invalid("Name at least one field to change", code="changes_missing")
    block = await service.editing.edit(
        scope,
        block_id,
        body.changes,
        revision=expected_revision(if_match),
        changed_by=caller.name,
    )
    response.headers["ETag"] = entity_tag(block.revision)
    return block_body(block)


@router.delete("/{block_id}", status_code=204, responses=CHANGED_BLOCK, **permission("ingest"))
async def delete_block(
    block_id: UUID,
    user_id: Name,
    service: ServiceDep,
    caller: CallerDep,
    if_match: IfMatch = None,
) -> Response:
    """Delete a block with its revisions, relations and all other references to it."""
    revision = expected_revision(if_match)
    await service.editing.delete(caller.scope(user_id), block_id, revision=revision)
    return Response(status_code=204)


@router.get("/{block_id}/revisions", responses=ONE_BLOCK, **permission("read"))
async def list_revisions(
    block_id: UUID,
    user_id: Name,
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=PAGE_BLOCKS_MAX)] = 50,
    cursor: Name | None = None,
) -> RevisionPageBody:
    """A block's state before each edit, repeated enrichment or supersession, newest first."""
    scope = caller.scope(user_id)
    owner = (scope.project_id, scope.user_id, "revisions", str(block_id))
    page = await service.editing.revisions(
        scope,
        block_id,
        below=service.cursors.number(cursor, owner=owner) if cursor else None,
        limit=limit,
    )
    return RevisionPageBody(
        revisions=[revision_body(revision) for revision in page.revisions],
        next_cursor=(
            service.cursors.after_number(page.next_below, owner=owner) if page.next_below else None
        ),
    )


@router.get("/{block_id}/relations", responses=ONE_BLOCK, **permission("read"))
async def list_block_relations(
    block_id: UUID,
    user_id: Name,
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=PAGE_BLOCKS_MAX)] = 50,
    cursor: Name | None = None,
) -> RelationPageBody:
    """A block's relations, newest first, including rejected ones."""
    scope = caller.scope(user_id)
    if await service.blocks.read_one(scope, block_id) is None:
        raise NotFound("There is no such block of this user", code="block_not_found")
    owner = (scope.project_id, scope.user_id, "block relations", str(block_id))
    page = await service.relations.page(
        scope,
        block_id=block_id,
        before=service.cursors.block(cursor, owner=owner) if cursor else None,
        limit=limit,
    )
    return RelationPageBody(
        relations=[RelationBody.of(relation) for relation in page.relations],
        next_cursor=(
            service.cursors.after_block(page.next_before, owner=owner) if page.next_before else None
        ),
    )


@router.get("", responses=RESPONSES, **permission("read"))
async def list_blocks(
    user_id: Name,
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=PAGE_BLOCKS_MAX)] = 50,
    cursor: Name | None = None,
    status: BlockStatus | None = None,
    session_id: Name | None = None,
) -> BlockPageBody:
    """A user's blocks, newest first."""
    scope = caller.scope(user_id)
    owner = (scope.project_id, scope.user_id, "blocks")
    page = await service.blocks.page(
        scope,
        limit=limit,
        before=service.cursors.block(cursor, owner=owner) if cursor else None,
        status=status,
        session_id=session_id,
    )
    return BlockPageBody(
        blocks=block_bodies(page.blocks),
        next_cursor=(
            service.cursors.after_block(page.next_before, owner=owner) if page.next_before else None
        ),
    )


def _json(body: AcceptedBody | BlockBody, status: int) -> Response:
    document = body.model_dump_json(exclude_none=isinstance(body, AcceptedBody))
    return Response(document, status, media_type="application/json")
