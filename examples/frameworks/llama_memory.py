"""Long-term memory beside LlamaIndex's chat history, without a model key.

Start the service with `make up`, then run this program in an environment with
`pip install 'luma-memory[llama-index]'`:

    python examples/frameworks/llama_memory.py

Messages that no longer fit into the short history are stored; a later question recalls them.
"""

from __future__ import annotations

import asyncio
import os
from uuid import uuid4

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import Memory

from luma_memory.integrations.llama_index import LumaMemoryBlock

URL = os.environ.get("MEMORY_URL", "http://127.0.0.1:8080")


async def main() -> None:
    block = LumaMemoryBlock(url=URL, user_id=f"example-{uuid4()}")
    memory = Memory.from_defaults(
        token_limit=40,
        chat_history_token_ratio=0.5,
        token_flush_size=10,
        memory_blocks=[block],
        tokenizer_fn=str.split,  # words instead of a model's tokens
    )
    for text in ("My sister Ines lives in Porto.", "What a rainy day.", "I should buy bread."):
        await memory.aput(ChatMessage(role="user", content=text))
        await memory.aput(ChatMessage(role="assistant", content="That is good to know."))
    question = "Where does my sister live?"
    messages = await memory.aget(input=ChatMessage(role="user", content=question))
    recalled = await block.aget([ChatMessage(role="user", content=question)])
    print(f"in the history: {len(messages)} messages")
    print(f"{question} → {recalled}")
    await block.aclose()


if __name__ == "__main__":
    asyncio.run(main())
