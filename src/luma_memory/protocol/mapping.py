"""Maps wire models to domain records and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from luma_memory.domain import context as domain
from luma_memory.domain.access import Caller
from luma_memory.domain.block import CLIENT_FIELDS, Accepted, Block, BlockStatus, NewBlock
from luma_memory.domain.errors import Invalid
from luma_memory.domain.revision import BlockRevision
from luma_memory.domain.search import SearchResult
from luma_memory.protocol.blocks import (
    AcceptedBody,
    BlockBody,
    NewBlockBody,
    RevisionBody,
)
from luma_memory.protocol.context import (
    CitationBody,
    ContextBlockBody,
    ContextBody,
    ContextCircumstances,
    ContextContent,
    TokensBody,
)
from luma_memory.protocol.search import SearchHitBody, SearchResponse

# Without occurred_at, an equal block within a day counts as the same block sent again; on another
# day it is a new block.
REPEATED_WITHIN = timedelta(days=1)


def new_block(
    body: NewBlockBody, *, caller: Caller, header_key: str | None, now: datetime
) -> NewBlock:
    """The block a body describes.

    Raises Invalid when header and body name different keys, Forbidden for another user's block.
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
        **{name: getattr(body, name) for name in CLIENT_FIELDS},
        idempotency_key=key,
        request_hash=_request_hash(body) if key is not None else None,
        repeats_since=body.occurred_at or now - REPEATED_WITHIN,
    )


def accepted_body(
    accepted: Accepted, *, status: BlockStatus = "pending_enrichment"
) -> AcceptedBody:
    if accepted.repeats is None:
        return AcceptedBody(id=accepted.id, status=status, job_id=accepted.job_id)
    return AcceptedBody(
        id=accepted.id, status=accepted.repeats, job_id=accepted.job_id, duplicate=True
    )


def block_body(block: Block) -> BlockBody:
    return BlockBody.model_validate(block)


def block_bodies(blocks: Sequence[Block]) -> list[BlockBody]:
    return [block_body(block) for block in blocks]


def revision_body(revision: BlockRevision) -> RevisionBody:
    return RevisionBody(
        revision=revision.revision,
        reason=revision.reason,
        changed_by=revision.changed_by,
        before=dict(revision.before),
        changed_at=revision.created_at,
    )


def search_response(result: SearchResult) -> SearchResponse:
    return SearchResponse(
        results=[
            SearchHitBody(
                block=block_body(hit.block),
                score=hit.score,
                relevance=hit.relevance,
                explanation=dict(hit.explanation) if hit.explanation else None,
            )
            for hit in result.hits
        ],
        relevant=result.is_relevant,
        degraded=list(result.degraded),
        timings_ms={stage: round(value, 3) for stage, value in result.timings_ms.items()},
    )


def context_request(
    body: ContextBody,
    *,
    caller: Caller,
    blocks_max: int,
    token_budget: int,
    is_probe: bool = False,
) -> domain.ContextRequest:
    """The request a body describes. Raises Forbidden.

    blocks_max: limit and default of its blocks, which a budget without a number of blocks makes
    flexible. token_budget: its default.
    """
    return domain.ContextRequest(
        scope=caller.scope(body.user_id),
        query=body.query,
        blocks_max=min(body.max_blocks or blocks_max, blocks_max),
        token_budget=body.token_budget or token_budget,
        synthesize=body.synthesize,
        timeout_seconds=body.timeout_ms / 1000,
        relevant_only=body.relevant_only,
        include_items=body.include_items,
        is_flexible=body.max_blocks is None and body.token_budget is not None,
        is_probe=is_probe,
    )


def context_content(context: domain.Context) -> ContextContent:
    return ContextContent(
        blocks=[
            ContextBlockBody(
                id=block.id,
                content=block.content,
                cut=block.is_cut,
                score=block.score,
                relevance=block.relevance,
                occurred_at=block.occurred_at,
                speaker=block.speaker,
                session_id=block.session_id,
                source=block.source,
                title=block.title,
            )
            for block in context.blocks
        ],
        text=context.text,
        relevant=context.is_relevant,
        citations=[
            CitationBody(mark=citation.mark, block_id=citation.block_id)
            for citation in context.citations
        ],
        synthesized_by=context.synthesized_by,
    )


def context_circumstances(
    result: domain.ContextResult, request: domain.ContextRequest, *, counted_by: str
) -> ContextCircumstances:
    return ContextCircumstances(
        tokens=TokensBody(
            count=result.context.token_count, budget=request.token_budget, counted_by=counted_by
        ),
        cached=result.age_seconds is not None,
        age_seconds=None if result.age_seconds is None else round(result.age_seconds, 3),
        degraded=list(result.degraded),
        timings={stage: round(value, 3) for stage, value in result.timings_ms.items()},
    )


def memory_size(size_bytes: int) -> str:
    """As Redis writes sizes: 2.45M."""
    size, unit = float(size_bytes), "B"
    for larger in "KMGT":
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size_bytes}B" if unit == "B" else f"{size:.2f}{unit}"


def _request_hash(body: NewBlockBody) -> bytes:
    return hashlib.sha256(
        body.model_dump_json(exclude={"idempotency_key"}, exclude_unset=True).encode()
    ).digest()
