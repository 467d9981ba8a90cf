"""Between the wire's models and the domain's records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from luma_memory.domain.access import Caller
from luma_memory.domain.block import Accepted, Block, BlockStatus, NewBlock
from luma_memory.domain.errors import Invalid
from luma_memory.domain.search import SearchResult
from luma_memory.protocol.blocks import AcceptedBody, BlockBody, EntityBody, NewBlockBody
from luma_memory.protocol.search import SearchAnswer, SearchHitBody


def new_block(
    body: NewBlockBody, *, caller: Caller, header_key: str | None, now: datetime
) -> NewBlock:
    """The block a body describes.

    Raises Invalid when header and body name different keys, Forbidden for somebody else's block.
    """
    key = body.idempotency_key or header_key
    if header_key is not None and key != header_key:
        raise Invalid(
            "The header Idempotency-Key and the body name different keys",
            code="idempotency_key_mismatch",
            field="idempotency_key",
        )
    return NewBlock(
        scope=caller.scope(body.user_id),
        content=body.content,
        occurred_at=body.occurred_at or now,
        agent_id=body.agent_id,
        session_id=body.session_id,
        speaker=body.speaker,
        source=body.source,
        external_id=body.external_id,
        metadata=body.metadata,
        expires_at=body.expires_at,
        idempotency_key=key,
        request_hash=_request_hash(body) if key is not None else None,
    )


def accepted_body(
    accepted: Accepted, *, status: BlockStatus = "pending_enrichment"
) -> AcceptedBody:
    return AcceptedBody(id=accepted.id, status=status, job_id=accepted.job_id)


def block_body(block: Block) -> BlockBody:
    return BlockBody(
        id=block.id,
        user_id=block.scope.user_id,
        content=block.content,
        status=block.status,
        enrichment=block.enrichment,
        agent_id=block.agent_id,
        session_id=block.session_id,
        speaker=block.speaker,
        source=block.source,
        external_id=block.external_id,
        metadata=dict(block.metadata),
        occurred_at=block.occurred_at,
        expires_at=block.expires_at,
        title=block.title,
        summary=block.summary,
        tags=list(block.tags),
        entities=[
            EntityBody(name=entity.name, kind=entity.kind, value=entity.value)
            for entity in block.entities
        ],
        importance=block.importance,
        language=block.language,
        error=block.error,
        superseded_by=block.superseded_by,
        superseded_at=block.superseded_at,
        revision=block.revision,
        job_id=block.job_id,
        created_at=block.created_at,
        updated_at=block.updated_at,
    )


def block_bodies(blocks: Sequence[Block]) -> list[BlockBody]:
    return [block_body(block) for block in blocks]


def search_answer(result: SearchResult) -> SearchAnswer:
    return SearchAnswer(
        results=[
            SearchHitBody(
                block=block_body(hit.block),
                score=hit.score,
                explanation=dict(hit.explanation) if hit.explanation else None,
            )
            for hit in result.hits
        ],
        degraded=list(result.degraded),
        timings_ms={stage: round(value, 3) for stage, value in result.timings_ms.items()},
    )


def _request_hash(body: NewBlockBody) -> bytes:
    return hashlib.sha256(
        body.model_dump_json(exclude={"idempotency_key"}, exclude_unset=True).encode()
    ).digest()
