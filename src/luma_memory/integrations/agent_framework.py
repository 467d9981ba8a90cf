"""A context provider of Microsoft's Agent Framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from luma_memory.integrations.clients import Clients
from luma_memory.integrations.missing import extra_missing
from luma_memory.integrations.turns import store

try:
    from agent_framework import (
        AgentSession,
        ContextProvider,
        Message,
        SessionContext,
        SupportsAgentRun,
    )
except ModuleNotFoundError as error:
    raise extra_missing(error, "agent-framework") from error

_SOURCE: Final = "agent-framework"
_QUERY_CHARACTERS_MAX: Final = 2_000
_SPEAKERS: Final = ("user", "assistant")


class LumaContextProvider(ContextProvider):
    """Memory around each run of an agent; see docs/integrations/agent-framework.md.

    url, api_key: of the service. Before a run, what is relevant for its input is added as a message
    within `token_budget`; after it, the run's messages are stored with the session's id.
    """

    DEFAULT_SOURCE_ID: Final = "luma_memory"

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        user_id: str = "default",
        token_budget: int = 800,
        source_id: str = DEFAULT_SOURCE_ID,
    ) -> None:
        super().__init__(source_id)
        self._clients = Clients(url, api_key)
        self._user_id = user_id
        self._token_budget = token_budget

    async def before_run(
        self,
        *,
        agent: SupportsAgentRun,
        session: AgentSession,
        context: SessionContext,
        state: dict[str, Any],
    ) -> None:
        """Add what is relevant for the input."""
        texts = [m.text for m in context.input_messages if m.role == "user" and m.text.strip()]
        query = "\n".join(texts)[-_QUERY_CHARACTERS_MAX:]
        if not query.strip():
            return
        found = await self._clients.asynchronous.get_context(
            query, user_id=self._user_id, token_budget=self._token_budget
        )
        if found.text:
            context.extend_messages(self, [Message("user", [found.text])])

    async def after_run(
        self,
        *,
        agent: SupportsAgentRun,
        session: AgentSession,
        context: SessionContext,
        state: dict[str, Any],
    ) -> None:
        """Store the input and the response."""
        messages = [*context.input_messages]
        if context.response is not None:
            messages += context.response.messages
        await store(self._clients.asynchronous, self._blocks(messages, context.session_id))

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._clients.aclose()

    def _blocks(
        self, messages: Sequence[Message], session_id: str | None
    ) -> Sequence[dict[str, Any]]:
        about = {"user_id": self._user_id, "source": _SOURCE}
        if session_id is not None:
            about["session_id"] = session_id
        return [
            {**about, "content": message.text, "speaker": _speaker(message)}
            for message in messages
            if message.role in _SPEAKERS
        ]


def _speaker(message: Message) -> str:
    """A user by name; an agent without one has a placeholder as its name."""
    is_user = str(message.role) == "user"
    return message.author_name or "user" if is_user else str(message.role)
