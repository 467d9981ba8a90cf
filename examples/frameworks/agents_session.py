"""A conversation of the OpenAI Agents SDK that outlives its process, with a scripted model.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[openai-agents]'`:

    python examples/frameworks/agents_session.py
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from luma_memory.integrations.openai_agents import LumaSession

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")


class ScriptedModel(Model):
    """Responds with the number of messages in its input."""

    async def get_response(
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002 - the SDK's name
        *args: Any,
        **kwargs: Any,
    ) -> ModelResponse:
        text = f"I have {len(input)} messages of this conversation."
        reply = ResponseOutputMessage(
            id=uuid4().hex,
            type="message",
            role="assistant",
            status="completed",
            content=[ResponseOutputText(type="output_text", text=text, annotations=[])],
        )
        return ModelResponse(output=[reply], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


async def main() -> None:
    agent = Agent(name="Counter", model=ScriptedModel())
    name = uuid4().hex
    for message in ("Hello!", "And now?"):
        session = LumaSession(name, URL, user_id="example")  # as another process would open it
        result = await Runner.run(
            agent, message, session=session, run_config=RunConfig(tracing_disabled=True)
        )
        print(f"{message} → {result.final_output}")
        await session.aclose()


if __name__ == "__main__":
    asyncio.run(main())
