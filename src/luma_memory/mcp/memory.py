"""What the tools need of a memory service, whether it runs in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from luma_memory.domain.errors import Invalid
from luma_memory.protocol.blocks import BatchItem, BlockBody, BlockEditBody, NewBlockBody
from luma_memory.protocol.context import ContextResponse
from luma_memory.protocol.jobs import JobBody
from luma_memory.protocol.search import SearchResponse

# The `source` of blocks stored through the protocol.
SOURCE: Final = "mcp"


class Memory(Protocol):
    """One caller's memory. Every method raises LumaMemoryError, as the REST routes do."""

    def user(self, named: str | None) -> str:
        """The user a call concerns. Raises Forbidden, or Invalid (code user_id_missing)."""
        ...

    async def search(
        self, user_id: str, query: str, *, limit: int, filters: Mapping[str, Any] | None
    ) -> SearchResponse: ...

    async def context(
        self, user_id: str, query: str, *, token_budget: int | None, token_budget_max: int
    ) -> ContextResponse: ...

    async def add(self, blocks: Sequence[NewBlockBody]) -> Sequence[BatchItem]:
        """One outcome per block, in their order."""
        ...

    async def get(self, user_id: str, block_id: UUID) -> BlockBody: ...

    async def edit(self, user_id: str, block_id: UUID, changes: BlockEditBody) -> BlockBody: ...

    async def delete(self, user_id: str, block_id: UUID) -> BlockBody | None:
        """Delete a block; what it was, or None for a caller that may not read."""
        ...

    async def job(self, user_id: str | None, job_id: int) -> JobBody:
        """A job; `user_id`: require one of this user."""
        ...


def user_id_missing() -> Invalid:
    """For a call without a user where neither the key nor the configuration names one."""
    return Invalid(
        "The call names no user, and MEMORY_MCP_USER_ID is not set",
        code="user_id_missing",
        field="user_id",
    )
