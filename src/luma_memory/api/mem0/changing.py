"""Change and delete memories, one by one, in batches and by filter."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from luma_memory.api.mem0.bodies import (
    BatchDeleteBody,
    BatchUpdateBody,
    Id,
    ListBody,
    UpdateBody,
)
from luma_memory.api.mem0.memories import APP_ID, memory
from luma_memory.api.mem0.owners import entity_missing
from luma_memory.api.mem0.queries import blocks_of, chosen_scopes, one_block
from luma_memory.api.routes.blocks import BATCH_BYTES_MAX, BLOCK_BYTES_MAX
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.block import Block
from luma_memory.domain.errors import Invalid
from luma_memory.ports.block_lists import BlockChoice

router = APIRouter(tags=["memories"], route_class=ProtectedRoute)
FILTERS_CHARACTERS_MAX: Final = 2_000
_changing = {"max_body_size": BLOCK_BYTES_MAX, **permission("ingest", remembered=False)}
_batch = {"max_body_size": BATCH_BYTES_MAX, **permission("ingest", remembered=False)}
_deleting = permission("ingest", remembered=False)


@router.put("/v1/memories/{memory_id}/", **_changing)
@router.put("/memories/{memory_id}", **_changing)
async def update_memory(
    memory_id: str, body: UpdateBody, service: ServiceDep, caller: CallerDep
) -> Response:
    """Change a memory. A changed text is enriched again; the state before is in its history."""
    caller.check_may("read")  # the response is the memory
    block = await one_block(memory_id, service, caller)
    edited = await _edit(block, body, service, caller)
    message = {"message": "Memory updated successfully!"}
    return JSONResponse({**memory(edited), "text": edited.content, **message})


@router.delete("/v1/memories/{memory_id}/", **_deleting)
@router.delete("/memories/{memory_id}", **_deleting)
async def delete_memory(
    memory_id: str,
    service: ServiceDep,
    caller: CallerDep,
    delete_linked: Annotated[
        bool, Query(description="Also delete what this memory superseded.")
    ] = False,
) -> Response:
    """Delete a memory with its history."""
    block = await one_block(memory_id, service, caller)
    ids = [block.id]
    if delete_linked:
        ids = list(await service.lists.with_replaced(block.scope, block.id))
    await service.lists.delete(block.scope, ids)
    return JSONResponse({"message": "Memory deleted successfully!"})


@router.delete("/v1/memories/", **_deleting)
@router.delete("/memories", **_deleting)
async def delete_memories(
    service: ServiceDep,
    caller: CallerDep,
    user_id: Id = None,
    agent_id: Id = None,
    app_id: Id = None,
    run_id: Id = None,
    filters: Annotated[
        str | None, Query(max_length=FILTERS_CHARACTERS_MAX, description="The ids, as an object.")
    ] = None,
) -> Response:
    """Delete all memories of an owner that have these ids.

    At least one is required, also of a key that is limited to one user.
    """
    body = ListBody(
        user_id=user_id,
        agent_id=agent_id,
        app_id=app_id,
        run_id=run_id,
        filters=None if filters is None else _filters(filters),
    )
    if not any(body.ids.values()) and not body.filters:
        raise entity_missing()
    choice = BlockChoice(chosen_scopes(body, caller), include_expired=True)
    await service.lists.delete_chosen(choice)
    return JSONResponse({"message": "Memories deleted successfully!"})


@router.put("/v1/batch/", **_batch)
async def update_batch(body: BatchUpdateBody, service: ServiceDep, caller: CallerDep) -> Response:
    """Change memories one after the other. If one is missing, none is changed."""
    ids = [item.memory_id for item in body.memories]
    blocks = await blocks_of(ids, service, caller)
    for block, item in zip(blocks, body.memories, strict=True):
        await _edit(block, item, service, caller)
    return JSONResponse({"message": f"Successfully updated {len(blocks)} memories"})


@router.delete("/v1/batch/", **_batch)
async def delete_batch(body: BatchDeleteBody, service: ServiceDep, caller: CallerDep) -> Response:
    """Delete memories. If one is missing, none is deleted."""
    ids = list(dict.fromkeys(item.memory_id for item in body.memories))
    blocks = await blocks_of(ids, service, caller)
    for scope in dict.fromkeys(block.scope for block in blocks):
        await service.lists.delete(scope, [block.id for block in blocks if block.scope == scope])
    return JSONResponse({"message": f"Successfully deleted {len(blocks)} memories"})


async def _edit(block: Block, body: UpdateBody, service: Service, caller: Caller) -> Block:
    return await service.editing.edit(
        block.scope,
        block.id,
        _changes(block, body),
        revision=None,
        changed_by=caller.name,
    )


def _changes(block: Block, body: UpdateBody) -> dict[str, Any]:
    """The fields to change. Raises Invalid if there are none."""
    changes: dict[str, Any] = {}
    if (text := body.text or body.data) is not None:
        changes["content"] = text
    if body.metadata is not None:
        kept = {APP_ID: block.metadata[APP_ID]} if APP_ID in block.metadata else {}
        changes["metadata"] = {**kept, **body.metadata}
    if body.timestamp is not None:
        changes["occurred_at"] = body.timestamp
    if "expiration_date" in body.model_fields_set:
        changes["expires_at"] = body.expiration_date
    if not changes:
        raise Invalid(
            "Give at least one of text, metadata, timestamp, expiration_date",
            code="changes_missing",
        )
    return changes


def _filters(text: str) -> Mapping[str, Any]:
    """An object in a query parameter: JSON, or as mem0's Python client writes a dictionary."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    raise Invalid("filters must be an object of ids", code="invalid_filter", field="filters")
