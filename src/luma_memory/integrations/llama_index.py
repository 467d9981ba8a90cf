"""A memory block of LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from luma_memory.integrations.clients import Clients
from luma_memory.integrations.missing import extra_missing
from luma_memory.integrations.turns import store

try:
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.bridge.pydantic import Field, PrivateAttr, SecretStr
    from llama_index.core.memory import BaseMemoryBlock
except ModuleNotFoundError as error:
    raise extra_missing(error, "llama-index") from error

_SOURCE: Final = "llama-index"
_TOKEN_CHARACTERS: Final = 4
_QUERY_CHARACTERS_MAX: Final = 2_000
_SKIPPED_ROLES: Final = ("system", "developer", "function", "tool")


class LumaMemoryBlock(BaseMemoryBlock[str]):
    """Long-term memory beside the chat history; see docs/integrations/llama-index.md.

    Messages that leave the short-term memory are stored; what is relevant for the latest message of
    the user is inserted, within `token_budget`.
    """

    name: str = "luma_memory"
    url: str
    api_key: SecretStr | None = Field(default=None, exclude=True)
    user_id: str = "default"
    token_budget: int = 800

    _clients: Clients = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._clients = Clients(self.url, self.api_key)

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        query = _latest(messages or [])
        if not query:
            return ""
        context = await self._clients.asynchronous.get_context(
            query, user_id=self.user_id, token_budget=self.token_budget
        )
        return context.text

    async def _aput(self, messages: list[ChatMessage]) -> None:
        blocks = []
        for message in messages:
            if message.role.value in _SKIPPED_ROLES:
                continue  # instructions, and results of tools
            block = {
                "user_id": self.user_id,
                "content": message.content or "",
                "speaker": message.role.value,
                "source": _SOURCE,
            }
            if session_id := message.additional_kwargs.get("session_id"):
                block["session_id"] = str(session_id)
            blocks.append(block)
        await store(self._clients.asynchronous, blocks)

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """The text without its last, least relevant memories; None if none would be left."""
        lines = content.splitlines()
        left = len(content) - tokens_to_truncate * _TOKEN_CHARACTERS
        # The first line introduces the others.
        while len(lines) > 1 and len("\n".join(lines)) > left:
            lines.pop()
        return "\n".join(lines) if len(lines) > 1 else None

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._clients.aclose()


def _latest(messages: Sequence[ChatMessage]) -> str:
    texts = [m.content for m in messages if m.role.value == "user" and (m.content or "").strip()]
    return (texts[-1] or "")[:_QUERY_CHARACTERS_MAX] if texts else ""
