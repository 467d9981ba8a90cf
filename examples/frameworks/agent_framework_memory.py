"""Memory of an agent of Microsoft's Agent Framework, with a scripted model.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[agent-framework]'`:

    python examples/frameworks/agent_framework_memory.py
"""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import uuid4

from agent_framework import Agent, BaseChatClient, ChatResponse, Message

from luma_memory.integrations.agent_framework import LumaContextProvider

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")


class ScriptedClient(BaseChatClient):
    """Responds with the last line of what it was given before the message."""

    def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **_: Any) -> Any:
        async def respond() -> ChatResponse:
            recalled = messages[0].text.splitlines()[-1] if len(messages) > 1 else "Noted."
            return ChatResponse(messages=[Message("assistant", [recalled])])

        return respond()


async def main() -> None:
    provider = LumaContextProvider(URL, user_id=f"example-{uuid4()}")
    agent = Agent(ScriptedClient(), name="guide", context_providers=[provider])
    for text in ("My sister Ines lives in Porto.", "Where does my sister live?"):
        response = await agent.run(text, session=agent.create_session())
        print(f"{text} → {response.text}")
    await provider.aclose()


if __name__ == "__main__":
    asyncio.run(main())
