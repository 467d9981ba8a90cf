"""A toolset of Pydantic AI that remembers and recalls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luma_memory.client import Invalid
from luma_memory.integrations.clients import Clients
from luma_memory.integrations.missing import extra_missing
from luma_memory.integrations.tool_texts import (
    ADD_DESCRIPTION,
    NOTHING,
    SEARCH_DESCRIPTION,
    STORED,
    TOKEN_BUDGET,
)

try:
    from pydantic_ai import ModelRetry, RunContext
    from pydantic_ai.toolsets import FunctionToolset
except ModuleNotFoundError as error:
    raise extra_missing(error, "pydantic-ai") from error


def luma_toolset(
    url: str,
    api_key: str | None = None,
    *,
    user_id: str | Callable[[RunContext[Any]], str] = "default",
) -> FunctionToolset[Any]:
    """The tools `search_memories` and `add_memory`.

    url, api_key: of the service. user_id: whose memory, or a function of the run: it may depend on
    `deps`, and the model has no say in it.
    """
    clients = Clients(url, api_key)

    def user(ctx: RunContext[Any]) -> str:
        return user_id(ctx) if callable(user_id) else user_id

    async def search_memories(ctx: RunContext[Any], query: str) -> str:
        try:
            context = await clients.asynchronous.get_context(
                query, user_id=user(ctx), token_budget=TOKEN_BUDGET
            )
        except Invalid as error:
            raise ModelRetry(str(error)) from error
        return context.text or NOTHING

    async def add_memory(ctx: RunContext[Any], content: str) -> str:
        block = {"user_id": user(ctx), "content": content, "source": "pydantic-ai"}
        try:
            await clients.asynchronous.ingest_block_async(block)
        except Invalid as error:
            raise ModelRetry(str(error)) from error
        return STORED

    toolset: FunctionToolset[Any] = FunctionToolset()
    toolset.add_function(search_memories, description=SEARCH_DESCRIPTION)
    toolset.add_function(add_memory, description=ADD_DESCRIPTION)
    return toolset
