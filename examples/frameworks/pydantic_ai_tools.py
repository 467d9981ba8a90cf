"""An agent of Pydantic AI that remembers and recalls, with a scripted model.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[pydantic-ai]'`:

    python examples/frameworks/pydantic_ai_tools.py
"""

from __future__ import annotations

import os
from uuid import uuid4

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from luma_memory.integrations.pydantic_ai import luma_toolset

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Searches for a question, stores a statement, and repeats what the tool returned."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        return ModelResponse(parts=[TextPart(str(last.content))])
    text = str(getattr(last, "content", ""))
    if text.endswith("?"):
        return ModelResponse(parts=[ToolCallPart("search_memories", {"query": text})])
    return ModelResponse(parts=[ToolCallPart("add_memory", {"content": text})])


def main() -> None:
    # The user of a run comes from its deps; the model cannot name another one.
    toolset = luma_toolset(URL, user_id=lambda ctx: str(ctx.deps))
    agent = Agent(FunctionModel(script), deps_type=str, toolsets=[toolset])
    user_id = f"example-{uuid4()}"
    for text in ("My sister Ines lives in Porto.", "Where does my sister live?"):
        print(f"{text} → {agent.run_sync(text, deps=user_id).output}")


if __name__ == "__main__":
    main()
