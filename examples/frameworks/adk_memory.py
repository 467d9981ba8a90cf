"""Memory of an agent of Google's Agent Development Kit, without a model key.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[google-adk]'`:

    python examples/frameworks/adk_memory.py

One session is stored; the agent of a later one loads what it remembers with ADK's own tool.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools import load_memory
from google.genai import types

from luma_memory.integrations.google_adk import LumaMemoryService

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")


class ScriptedModel(BaseLlm):
    """Loads memories for a question, and repeats the best one."""

    model: str = "scripted"

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        last = (llm_request.contents[-1].parts or [])[0]
        if last.function_response is not None:
            response: Any = last.function_response.response
            memories = response["result"].memories if "result" in response else []
            part = types.Part(text=memories[0].content.parts[0].text if memories else "I forgot.")
        elif (last.text or "").endswith("?"):
            call = types.FunctionCall(name="load_memory", args={"query": last.text})
            part = types.Part(function_call=call)
        else:
            part = types.Part(text="Noted.")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def main() -> None:
    memory, sessions = LumaMemoryService(URL), InMemorySessionService()
    agent = LlmAgent(name="guide", model=ScriptedModel(), tools=[load_memory])
    runner = Runner(app_name="travel", agent=agent, session_service=sessions, memory_service=memory)
    user_id = f"example-{uuid4()}"
    for text in ("My sister Ines lives in Porto.", "Where does my sister live?"):
        session = await sessions.create_session(app_name="travel", user_id=user_id)
        message = types.Content(role="user", parts=[types.Part(text=text)])
        async for event in runner.run_async(
            user_id=user_id, session_id=session.id, new_message=message
        ):
            if event.is_final_response() and event.content and event.content.parts:
                print(f"{text} → {event.content.parts[0].text}")
        whole = await sessions.get_session(
            app_name="travel", user_id=user_id, session_id=session.id
        )
        assert whole is not None
        await memory.add_session_to_memory(whole)
    await memory.aclose()


if __name__ == "__main__":
    asyncio.run(main())
