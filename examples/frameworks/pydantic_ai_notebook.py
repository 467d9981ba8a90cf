"""An agent of the Pydantic AI harness that keeps a notebook, with a scripted model.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[pydantic-ai-harness]'`:

    python examples/frameworks/pydantic_ai_notebook.py
"""

from __future__ import annotations

import os
from uuid import uuid4

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_harness.memory import Memory

from luma_memory.integrations.pydantic_ai_harness import LumaMemoryStore

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Writes a statement into the notebook, and reads the notebook for a question."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        return ModelResponse(parts=[TextPart(str(last.content))])
    prompt = str(getattr(messages[-1].parts[0], "content", ""))
    if prompt.endswith("?"):
        return ModelResponse(parts=[ToolCallPart("read_memory", {"file": "MEMORY.md"})])
    return ModelResponse(parts=[ToolCallPart("write_memory", {"content": prompt})])


def main() -> None:
    user_id = f"example-{uuid4()}"
    for text in ("My sister Ines lives in Porto.", "Where does my sister live?"):
        # Each run has a store of its own, as in another process.
        memory: Memory[None] = Memory(LumaMemoryStore(URL, user_id=user_id))
        agent = Agent(FunctionModel(script), capabilities=[memory])
        print(f"{text} → {agent.run_sync(text).output}")


if __name__ == "__main__":
    main()
