"""Adapters that go through mem0's Python client: what they add, they find. Prints `ok`."""

from __future__ import annotations

import asyncio
import sys

from agent_framework import AgentSession, Message, SessionContext
from agent_framework_mem0 import Mem0ContextProvider
from haystack.dataclasses import ChatMessage as HaystackMessage
from haystack.utils import Secret
from haystack_integrations.memory_stores.mem0 import Mem0MemoryStore
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import Memory
from llama_index.memory.mem0 import Mem0Memory
from mem0 import AsyncMemoryClient, MemoryClient

FACT = "My sister Ines repairs violins in Cremona."
QUESTION = "What does Ines repair?"


def llama_index(client: MemoryClient) -> None:
    memory = Mem0Memory(
        primary_memory=Memory.from_defaults(), context={"user_id": "llama"}, client=client
    )
    memory.put(ChatMessage(role="user", content=FACT))
    found = memory.get(QUESTION)
    assert FACT in str(found[0].content), found


async def agent_framework(client: AsyncMemoryClient) -> None:
    async with client:
        provider = Mem0ContextProvider(
            mem0_client=client,
            user_id="framework",
            application_id="desk",
            search_user_id="framework",
            search_application_id="desk",
        )

        def context(text: str) -> SessionContext:
            return SessionContext(input_messages=[Message(role="user", contents=[text])])

        session = AgentSession()
        await provider.after_run(agent=None, session=session, context=context(FACT), state={})
        asked = context(QUESTION)
        await provider.before_run(agent=None, session=session, context=asked, state={})
        (message,) = asked.context_messages["mem0"]
        assert FACT in message.text, message.text


def haystack(client: MemoryClient) -> None:
    store = Mem0MemoryStore(api_key=Secret.from_token("unused"))
    store._client = client  # it has no argument for an address
    (added,) = store.add_memories(
        messages=[HaystackMessage.from_user(FACT)], user_id="haystack", infer=False
    )
    assert added["memory"] == FACT
    found = store.search_memories(query=QUESTION, user_id="haystack")
    assert found[0].text == FACT
    assert found[0].meta["mem0"]["memory_id"] == added["memory_id"]
    filters = {"field": "topic", "operator": "==", "value": "music"}
    store.add_memories(
        messages=[HaystackMessage.from_user("I play the cello.")],
        user_id="haystack",
        metadata={"topic": "music"},
    )
    narrowed = store.search_memories(filters=filters, user_id="haystack")
    assert [one.text for one in narrowed] == ["I play the cello."], narrowed


def main() -> None:
    url, key = sys.argv[1:3]
    client = MemoryClient(api_key=key, host=f"{url}/mem0")
    llama_index(client)
    haystack(client)
    asyncio.run(agent_framework(AsyncMemoryClient(api_key=key, host=f"{url}/mem0")))
    print("ok")


main()
