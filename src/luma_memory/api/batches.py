"""Blocks of one request, each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from luma_memory.api.problems import field_problem
from luma_memory.api.strict_json import bounded
from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.block import Accepted, NewBlock
from luma_memory.domain.errors import Invalid, InvariantError, LumaMemoryError, RequestError
from luma_memory.pipeline.ingest.ingest import Ingested
from luma_memory.protocol.blocks import BatchItem, BatchItemError, NewBlockBody
from luma_memory.protocol.mapping import accepted_body, new_block
from luma_memory.telemetry.logs import log_failure

VALIDATED_AT_ONCE: Final = 20


async def store_each(
    service: Service, caller: Caller, items: Sequence[object], *, header_key: str | None = None
) -> list[BatchItem]:
    """The outcome of each item, in order; an invalid one does not fail the others.

    header_key: of the request; each block's key combines it with the block's position. Without a
    worker the blocks are enriched here. Raises StoreUnavailable.
    """
    parsed = []
    for index, item in enumerate(items):
        parsed.append(_parse_item(item, index, caller, header_key, service))
        if index % VALIDATED_AT_ONCE == VALIDATED_AT_ONCE - 1:
            await asyncio.sleep(0)  # let other requests run
    good = [block for block in parsed if isinstance(block, NewBlock)]
    by_worker = service.settings.worker_enabled
    ingest = service.ingest.ingest_batch_async if by_worker else service.ingest.ingest_batch
    outcomes = iter(await ingest(good))
    return [
        _batch_item(index, next(outcomes) if isinstance(block, NewBlock) else block)
        for index, block in enumerate(parsed)
    ]


def _parse_item(
    item: object, index: int, caller: Caller, header_key: str | None, service: Service
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
            log_failure("A block of a batch failed with an internal error", outcome)
            error = BatchItemError(code=outcome.code, detail="An internal error occurred")
        case LumaMemoryError():
            error = BatchItemError(code=outcome.code, detail=str(outcome))
        case _:
            raise outcome
    return BatchItem(index=index, error=error)
