"""The memory of one key, over the SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from luma_memory.client import AsyncMemoryClient
from luma_memory.domain.errors import Forbidden
from luma_memory.mcp.memory import user_id_missing
from luma_memory.protocol.blocks import BatchItem, BlockBody, BlockEditBody, NewBlockBody
from luma_memory.protocol.context import ContextResponse
from luma_memory.protocol.jobs import JobBody
from luma_memory.protocol.search import SearchResponse


class ClientMemory:
    """`mcp.memory.Memory` of a service reached over HTTP; that service checks permissions.

    connect: an open client, which may have to wait for the service to start. default_user: for
    calls that name no user.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[AsyncMemoryClient]], *, default_user: str | None
    ) -> None:
        self._connect = connect
        self._default_user = default_user

    def user(self, named: str | None) -> str:
        user_id = named or self._default_user
        if user_id is None:
            raise user_id_missing()
        return user_id

    async def search(
        self, user_id: str, query: str, *, limit: int, filters: Mapping[str, Any] | None
    ) -> SearchResponse:
        client = await self._connect()
        return await client.search(query, user_id=user_id, limit=limit, filters=filters)

    async def context(
        self, user_id: str, query: str, *, token_budget: int | None, token_budget_max: int
    ) -> ContextResponse:
        client = await self._connect()
        budget = None if token_budget is None else min(token_budget, token_budget_max)
        return await client.get_context(query, user_id=user_id, token_budget=budget)

    async def add(self, blocks: Sequence[NewBlockBody]) -> Sequence[BatchItem]:
        client = await self._connect()
        return (await client.ingest_batch_async(blocks)).results

    async def get(self, user_id: str, block_id: UUID) -> BlockBody:
        return await (await self._connect()).get_block(block_id, user_id=user_id)

    async def edit(self, user_id: str, block_id: UUID, changes: BlockEditBody) -> BlockBody:
        return await (await self._connect()).edit_block(block_id, changes, user_id=user_id)

    async def delete(self, user_id: str, block_id: UUID) -> BlockBody | None:
        client = await self._connect()
        try:
            block = await client.get_block(block_id, user_id=user_id)
        except Forbidden:
            block = None
        await client.delete_block(block_id, user_id=user_id)
        return block

    async def job(self, user_id: str | None, job_id: int) -> JobBody:
        return await (await self._connect()).get_job(job_id, user_id=user_id)
