"""The memory of one caller, over the objects of this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from luma_memory.bootstrap.service import Service
from luma_memory.domain.access import Caller
from luma_memory.domain.block import Accepted
from luma_memory.domain.errors import (
    InvariantError,
    LumaMemoryError,
    NotFound,
    UnavailableError,
)
from luma_memory.domain.filters import parse_filter
from luma_memory.domain.job import JobFilter
from luma_memory.mcp.memory import user_id_missing
from luma_memory.pipeline.ingest.ingest import Ingested
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.protocol.blocks import (
    BatchItem,
    BatchItemError,
    BlockBody,
    BlockEditBody,
    NewBlockBody,
)
from luma_memory.protocol.context import ContextBody, ContextResponse
from luma_memory.protocol.jobs import JobBody
from luma_memory.protocol.mapping import (
    accepted_body,
    block_body,
    context_circumstances,
    context_content,
    context_request,
    new_block,
    search_response,
)
from luma_memory.protocol.search import SearchResponse
from luma_memory.telemetry.logs import log_failure

_DISABLED: Final = "system_disabled"


class ServiceMemory:
    """`mcp.memory.Memory`, with the permissions of the REST routes."""

    def __init__(self, service: Service, caller: Caller) -> None:
        self._service = service
        self._caller = caller

    def user(self, named: str | None) -> str:
        default = self._caller.user_id or self._service.settings.mcp_user_id
        user_id = named or default
        if user_id is None:
            raise user_id_missing()
        return self._caller.scope(user_id).user_id

    async def search(
        self, user_id: str, query: str, *, limit: int, filters: Mapping[str, Any] | None
    ) -> SearchResponse:
        self._caller.check_may("read")
        request = SearchRequest(
            scope=self._caller.scope(user_id),
            query=query,
            limit=limit,
            filters=None if filters is None else parse_filter(dict(filters)),
        )
        response = search_response(await self._service.recall.search(request))
        response.degraded.extend(self._switched_off())
        return response

    async def context(
        self, user_id: str, query: str, *, token_budget: int | None, token_budget_max: int
    ) -> ContextResponse:
        self._caller.check_may("read")
        settings = self._service.settings
        budget = min(token_budget or settings.context_token_budget, token_budget_max)
        request = context_request(
            ContextBody(user_id=user_id, query=query, token_budget=budget),
            caller=self._caller,
            blocks_max=settings.max_context_blocks,
            token_budget=budget,
        )
        result = await self._service.contexts.get_context(request)
        content = context_content(result.context)
        circumstances = context_circumstances(
            result, request, counted_by=self._service.contexts.counted_by
        )
        circumstances.degraded.extend(self._switched_off())
        return ContextResponse(**dict(content), **dict(circumstances))

    async def add(self, blocks: Sequence[NewBlockBody]) -> Sequence[BatchItem]:
        self._check_may_write()
        now = self._service.clock.now()
        new = [new_block(body, caller=self._caller, header_key=None, now=now) for body in blocks]
        by_worker = self._service.settings.worker_enabled
        ingest = self._service.ingest
        store = ingest.ingest_batch_async if by_worker else ingest.ingest_batch
        return [_item(index, outcome) for index, outcome in enumerate(await store(new))]

    async def get(self, user_id: str, block_id: UUID) -> BlockBody:
        self._caller.check_may("read")
        block = await self._service.blocks.read_one(self._caller.scope(user_id), block_id)
        if block is None:
            raise NotFound("There is no such block of this user", code="block_not_found")
        return block_body(block)

    async def edit(self, user_id: str, block_id: UUID, changes: BlockEditBody) -> BlockBody:
        self._check_may_write()
        self._caller.check_may("read")  # the result is the block
        block = await self._service.editing.edit(
            self._caller.scope(user_id),
            block_id,
            changes.changes,
            revision=None,
            changed_by=self._caller.name,
        )
        return block_body(block)

    async def delete(self, user_id: str, block_id: UUID) -> BlockBody | None:
        self._check_may_write()
        may_read = "read" in self._caller.permissions
        block = await self.get(user_id, block_id) if may_read else None
        await self._service.editing.delete(self._caller.scope(user_id), block_id, revision=None)
        return block

    async def job(self, user_id: str | None, job_id: int) -> JobBody:
        self._caller.check_may("read")
        which = JobFilter(
            project_id=self._caller.project_id,
            user_id=self._caller.narrowed(user_id),
            ids=[job_id],
        )
        return JobBody.of(await self._service.jobs.one(which))

    def _check_may_write(self) -> None:
        self._caller.check_may("ingest")
        if self._switched_off():
            raise UnavailableError("The memory system is switched off", code=_DISABLED)

    def _switched_off(self) -> Sequence[str]:
        return () if self._service.settings.system_enabled else (_DISABLED,)


def _item(index: int, outcome: Accepted | Ingested | Exception) -> BatchItem:
    match outcome:
        case Ingested(accepted, block):
            body = accepted_body(accepted, status=block.status)
            return BatchItem(index=index, **body.model_dump())
        case Accepted():
            return BatchItem(index=index, **accepted_body(outcome).model_dump())
        case InvariantError():
            log_failure("A block of a batch failed with an internal error", outcome)
            error = BatchItemError(code=outcome.code, detail="An internal error occurred")
            return BatchItem(index=index, error=error)
        case LumaMemoryError():
            return BatchItem(
                index=index, error=BatchItemError(code=outcome.code, detail=str(outcome))
            )
        case _:
            raise outcome
