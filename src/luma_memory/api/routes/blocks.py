"""Memory blocks: accept, read, list, edit, delete."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import ValidationError

from luma_memory.api.entity_tags import IfMatch, entity_tag, expected_revision
from luma_memory.api.problems import RESPONSES, field_problem, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.api.strict_json import bounded
from luma_memory.api.wire import accepted_body, block_bodies, block_body, new_block, revision_body
from luma_memory.domain.access import Caller
from luma_memory.domain.block import Accepted, BlockStatus, NewBlock
from luma_memory.domain.errors import (
    Invalid,
    InvariantError,
    LumaMemoryError,
    NotFound,
    RequestError,
)
from luma_memory.pipeline.ingest.ingest import Ingested
from luma_memory.protocol.blocks import (
    AcceptedBody,
    BatchBody,
    BatchItem,
    BatchItemError,
    BatchResponse,
    BlockBody,
    BlockEditBody,
    BlockPageBody,
    NewBlockBody,
    RevisionPageBody,
)
from luma_memory.protocol.relations import RelationBody, RelationPageBody
from luma_memory.protocol.validation import Name
from luma_memory.telemetry.logs import log_failure

# A block of 100,000 characters of four bytes each, escaped twice over, with its metadata.
BLOCK_BYTES_MAX = 2_000_000
BATCH_BYTES_MAX = 32_000_000
PAGE_BLOCKS_MAX = 200
# About a millisecond of checking, more for long texts.
CHECKED_AT_ONCE = 20

router = APIRouter(prefix="/blocks", tags=["blocks"], route_class=ProtectedRoute)
ONE_BLOCK = {**RESPONSES, 404: problem_document("There is no such block of this user.")}
CHANGED_BLOCK = {
    **ONE_BLOCK,
    412: problem_document("The block has another revision than If-Match says."),
}
IdempotencyKey = Annotated[
    Name | None, Header(description="Names this request: repeated, it is answered as before.")
]


@router.post(
    "",
    status_code=202,
    response_model=AcceptedBody,
    responses={
        **RESPONSES,
        201: {"model": BlockBody, "description": "Stored and enriched: wait=true was asked for."},
    },
    max_body_size=BLOCK_BYTES_MAX,
    **permission("ingest", remembered=False),
)
async def accept_block(
    body: NewBlockBody,
    service: ServiceDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
    wait: Annotated[bool, Query(description="Answer when the block is enriched.")] = False,
) -> Response:
    """Store one block; a worker enriches it. It can be read and searched at once.

    With `wait=true` the answer is the block itself, so that needs the permission `read` as well.
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
    """Store up to 1,000 blocks; each gets its own outcome, a bad one fails no other.

    Where no worker runs (MEMORY_WORKER_ENABLED=false) they are enriched before the answer, 201.

    With the header Idempotency-Key each block's key is made of it and the block's position.
    """
    parsed = []
    for index, item in enumerate(body.blocks):
        parsed.append(_parse_item(item, index, caller, idempotency_key, service))
        if index % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
            await asyncio.sleep(0)  # others have their turn
    good = [block for block in parsed if isinstance(block, NewBlock)]
    by_worker = service.settings.worker_enabled
    ingest = service.ingest.ingest_batch_async if by_worker else service.ingest.ingest_batch
    answers = iter(await ingest(good))
    results = [
        _batch_item(index, next(answers) if isinstance(block, NewBlock) else block)
        for index, block in enumerate(parsed)
    ]
    accepted = sum(1 for result in results if result.error is None)
    answer = BatchResponse(accepted=accepted, rejected=len(results) - accepted, results=results)
    return Response(
        answer.model_dump_json(exclude_none=True),
        202 if by_worker else 201,
        media_type="application/json",
    )


@router.get("/{block_id}", responses=ONE_BLOCK, **permission("read"))
async def read_block(
    block_id: UUID, user_id: Name, service: ServiceDep, caller: CallerDep, response: Response
) -> BlockBody:
    """One block. Another user's block and one that never was are answered alike."""
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
    """Change a block. What it was stays among its revisions; new words are enriched anew.

    The answer is the block itself, so this needs the permission `read` as well.
    """
    caller.check_may("read")
    scope = caller.scope(user_id)
    if not body.model_fields_set:
        raise Invalid("Say at least one field that is to change", code="changes_missing")
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
    """Delete a block, its revisions, its relations and everything else that refers to it."""
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
    """What a block was before each edit, renewed enrichment or supersession, newest first."""
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
    """What a block has to do with others, newest first; rejected relations too."""
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


def _parse_item(
    item: object, index: int, caller: Caller, header_key: str | None, service: ServiceDep
) -> NewBlock | BatchItemError:
    try:
        body = NewBlockBody.model_validate(bounded(item))
        key = None if header_key is None else f"{header_key}:{index}"
        return new_block(
            body,
            caller=caller,
            header_key=key if body.idempotency_key is None else None,
            now=service.clock.now(),
        )
    except ValidationError as error:
        first = field_problem(error.errors(include_url=False, include_input=False)[0])
        return BatchItemError(code=first.code, detail=first.detail, field=first.field)
    except RequestError as error:
        return BatchItemError(code=error.code, detail=str(error))


def _batch_item(index: int, outcome: Accepted | Ingested | Exception | BatchItemError) -> BatchItem:
    match outcome:
        case Ingested(accepted, block):
            return BatchItem(
                index=index,
                id=block.id,
                status=block.status,
                job_id=accepted.job_id,
                duplicate=True if accepted.repeats else None,
            )
        case Accepted():
            return BatchItem(index=index, **accepted_body(outcome).model_dump())
        case BatchItemError():
            return BatchItem(index=index, error=outcome)
        case Invalid():
            error = BatchItemError(code=outcome.code, detail=str(outcome), field=outcome.field)
        case InvariantError():
            log_failure("A block of a batch met our own bug", outcome)
            error = BatchItemError(code=outcome.code, detail="Something went wrong on our side")
        case LumaMemoryError():
            error = BatchItemError(code=outcome.code, detail=str(outcome))
        case _:
            raise outcome
    return BatchItem(index=index, error=error)
