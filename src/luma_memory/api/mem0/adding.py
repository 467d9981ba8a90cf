"""Add memories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from luma_memory.api.mem0.bodies import AddBody
from luma_memory.api.mem0.events import event_id
from luma_memory.api.mem0.memories import added
from luma_memory.api.mem0.messages import new_blocks
from luma_memory.api.routes.blocks import BATCH_BYTES_MAX, IdempotencyKey
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.block import Accepted, NewBlock
from luma_memory.pipeline.ingest.ingest import Ingested

router = APIRouter(tags=["memories"], route_class=ProtectedRoute)
_QUEUED = "Memory processing has been queued for background execution"
_adding = {"max_body_size": BATCH_BYTES_MAX, **permission("ingest", remembered=False)}


@router.post("/v3/memories/add/", **_adding)
async def add_memories(
    body: AddBody,
    service: ServiceDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Store each message as a block; a worker enriches them.

    They can be read and searched immediately. The event reports when they are enriched.
    """
    blocks, accepted = await _stored(body, service, caller, idempotency_key)
    response: dict[str, Any] = {
        "message": _QUEUED,
        "status": "PENDING",
        "event_id": event_id(blocks[0].scope.user_id, [one.id for one in accepted]),
    }
    if body.infer is False:
        response["results"] = _results(blocks, accepted)
    return JSONResponse(response)


@router.post("/memories", **_adding)
async def add_memories_open_source(
    body: AddBody,
    service: ServiceDep,
    caller: CallerDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """As above, with the response of the open-source server."""
    blocks, accepted = await _stored(body, service, caller, idempotency_key)
    return JSONResponse({"results": _results(blocks, accepted)})


async def _stored(
    body: AddBody, service: Service, caller: Caller, key: str | None
) -> tuple[list[NewBlock], list[Accepted]]:
    """Raises the error of the first message that was not stored; those before it are stored."""
    body.check_offered()
    blocks = list(new_blocks(body, caller=caller, header_key=key, now=service.clock.now()))
    if len(blocks) == 1 and service.settings.worker_enabled:
        # Shares its statement with whatever else arrives, as POST /blocks does.
        return blocks, [await service.ingest.ingest_block_async(blocks[0])]
    accepted = []
    for outcome in await _outcomes(blocks, service):
        if isinstance(outcome, Exception):
            raise outcome
        accepted.append(outcome.accepted if isinstance(outcome, Ingested) else outcome)
    return blocks, accepted


async def _outcomes(
    blocks: list[NewBlock], service: Service
) -> Sequence[Accepted | Ingested | Exception]:
    if service.settings.worker_enabled:
        return await service.ingest.ingest_batch_async(blocks)
    return await service.ingest.ingest_batch(blocks)


def _results(blocks: list[NewBlock], accepted: list[Accepted]) -> list[dict[str, Any]]:
    return [
        added(one.id, block.content, is_new=one.created and one.repeats is None)
        for block, one in zip(blocks, accepted, strict=True)
    ]
