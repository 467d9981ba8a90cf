"""Tools of CrewAI that remember and recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luma_memory.integrations.clients import Clients
from luma_memory.integrations.missing import extra_missing
from luma_memory.integrations.tool_texts import (
    ADD_DESCRIPTION,
    NOTHING,
    SEARCH_DESCRIPTION,
    STORED,
    TOKEN_BUDGET,
    AddArguments,
    SearchArguments,
)

try:
    from crewai.tools import BaseTool
    from pydantic import PrivateAttr
except ModuleNotFoundError as error:
    raise extra_missing(error, "crewai") from error


def luma_tools(
    url: str, api_key: str | None = None, *, user_id: str = "default"
) -> Sequence[BaseTool]:
    """The tools `search_memories` and `add_memory` over the memory of one user.

    url, api_key: of the service.
    """
    clients = Clients(url, api_key)
    return [_SearchMemories(clients, user_id), _AddMemory(clients, user_id)]


class _MemoryTool(BaseTool):
    _clients: Clients = PrivateAttr()
    _user_id: str = PrivateAttr()

    def __init__(self, clients: Clients, user_id: str, **fields: Any) -> None:
        super().__init__(**fields)
        self._clients = clients
        self._user_id = user_id


class _SearchMemories(_MemoryTool):
    name: str = "search_memories"
    description: str = SEARCH_DESCRIPTION
    args_schema: type[SearchArguments] = SearchArguments

    def _run(self, query: str) -> str:
        context = self._clients.blocking.get_context(
            query, user_id=self._user_id, token_budget=TOKEN_BUDGET
        )
        return context.text or NOTHING


class _AddMemory(_MemoryTool):
    name: str = "add_memory"
    description: str = ADD_DESCRIPTION
    args_schema: type[AddArguments] = AddArguments

    def _run(self, content: str) -> str:
        block = {"user_id": self._user_id, "content": content, "source": "crewai"}
        self._clients.blocking.ingest_block_async(block)
        return STORED
