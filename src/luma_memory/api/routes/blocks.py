"""Memory blocks: store, read, list, edit, delete."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from luma_memory.api.batches import store_each
from luma_memory.api.entity_tags import IfMatch, entity_tag, expected_revision
from luma_memory.api.problems import RESPONSES, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.api.strict_json import parse_strictly
from luma_memory.domain.block import BlockStatus
from luma_memory.domain.block_selection import BlockSelection
from luma_memory.domain.errors import (
    Invalid,
    NotFound,
)
from luma_memory.domain.filters import parse_filter
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
from luma_memory.protocol.deletions import DeleteBlocksBody, DeleteBlocksResponse
from luma_memory.protocol.mapping import (
    accepted_body,
    block_bodies,
    block_body,
    new_block,
    revision_body,
)
from luma_memory.protocol.relations import RelationBody, RelationPageBody
from luma_memory.protocol.validation import FilterText, Name

# A block of 100,000 characters of four bytes each, escaped twice, with its metadata.
BLOCK_BYTES_MAX = 2_000_000
BATCH_BYTES_MAX = 32_000_000
SELECTION_BYTES_MAX = 300_000
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
    service: ServiceDep,
    caller: CallerDep,
    user_id: Annotated[Name | None, Query(description="null: of all users.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_BLOCKS_MAX)] = 50,
    cursor: Name | None = None,
    status: BlockStatus | None = None,
    session_id: Name | None = None,
    filters: Annotated[
        FilterText | None,
        Query(
            description="The filters of POST /search, as JSON.",
            examples=['{"source": "slack", "NOT": {"tags": "draft"}}'],
        ),
    ] = None,
) -> BlockPageBody:
    """Blocks of a user or of the project, newest first.

    A page examines 50,000 blocks at most: where few of them match, it may be short or empty and
    still have a `next_cursor`.
    """
    selection = BlockSelection(
        project_id=caller.project_id,
        user_id=caller.narrowed(user_id),
        filters=None if filters is None else parse_filter(_filter_document(filters)),
        status=status,
        session_id=session_id,
    )
    owner = (selection.project_id, selection.user_id, "blocks", status, session_id, filters)
    page = await service.selections.page(
        selection,
        limit=limit,
        before=service.cursors.block(cursor, owner=owner) if cursor else None,
    )
    return BlockPageBody(
        blocks=block_bodies(page.blocks),
        next_cursor=(
            service.cursors.after_block(page.next_before, owner=owner) if page.next_before else None
        ),
    )


def _filter_document(text: str) -> dict[str, Any]:
    try:
        document = parse_strictly(text.encode())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Invalid("filters must be a JSON object", code="invalid_filter", field="filters")
    return document


@router.post(
    "/delete",
    responses={**RESPONSES, 409: problem_document("The confirmation does not fit; see `code`.")},
    max_body_size=SELECTION_BYTES_MAX,
    **permission("ingest"),
)
async def delete_blocks(
    body: DeleteBlocksBody, service: ServiceDep, caller: CallerDep
) -> DeleteBlocksResponse:
    """Delete the blocks that a filter selects, in two steps.

    With `dry_run` it counts them and returns a `confirmation`, valid for ten minutes. The same
    request with the confirmation deletes them, 2,000 at most: with `more`, repeat it with the next
    confirmation. Blocks stored after the dry run are not deleted; if others were edited or deleted
    meanwhile, nothing is. Also requires the permission `read`, and `admin` without a user.
    """
    caller.check_may("read")
    user_id = caller.narrowed(body.user_id)
    if user_id is None:
        caller.check_may("admin")
    chosen = body.selects
    # An empty filter selects everything, as none does.
    if not any(value not in (False, {}) for value in chosen.values()):
        raise Invalid(
            "Name the blocks: give at least one condition, or `all: true`", code="filter_missing"
        )
    selection = BlockSelection(
        project_id=caller.project_id,
        user_id=user_id,
        filters=None if body.filters is None else parse_filter(body.filters),
        status=body.status,
        session_id=body.session_id,
        ids=body.ids,
    )
    signed = {"project_id": caller.project_id, "narrowed": user_id, **chosen}
    now = service.clock.now()
    if body.dry_run:
        counted = await service.selections.count(selection)
        deleted, left, matched = 0, counted, counted.count
    else:
        if body.confirmation is None:
            raise Invalid(
                "Send the confirmation of a dry run of the same request",
                code="confirmation_missing",
                field="confirmation",
            )
        counted = service.confirmations.selected(body.confirmation, of=signed, now=now)
        done = await service.selections.delete(selection, counted)
        deleted, left, matched = done.deleted, done.left, counted.count
    following = (
        service.confirmations.issue(left, of=signed, now=service.clock.now())
        if left.count
        else None
    )
    return DeleteBlocksResponse(
        dry_run=body.dry_run,
        matched=matched,
        deleted=deleted,
        more=not body.dry_run and left.count > 0,
        confirmation=None if following is None else following.text,
        expires_at=None if following is None else following.expires_at,
    )


def _json(body: AcceptedBody | BlockBody, status: int) -> Response:
    document = body.model_dump_json(exclude_none=isinstance(body, AcceptedBody))
    return Response(document, status, media_type="application/json")
