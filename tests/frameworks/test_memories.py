"""The adapters that store turns and recall them, with the real frameworks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from agent_framework import Agent, BaseChatClient, ChatResponse
from agent_framework import Message as AgentMessage
from google.adk.events import Event
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.sessions import InMemorySessionService, Session
from google.genai import types
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import Memory
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from luma_memory.client import AsyncMemoryClient
from luma_memory.integrations.agent_framework import LumaContextProvider
from luma_memory.integrations.crewai import luma_tools
from luma_memory.integrations.google_adk import LumaMemoryService
from luma_memory.integrations.llama_index import LumaMemoryBlock
from luma_memory.integrations.pydantic_ai import luma_toolset

FERRY = "The ferry to Naxos leaves at noon."
QUESTION = "When does the ferry leave?"


async def stored(url: str, user: str) -> list[tuple[str, str | None, str | None]]:
    """Text, speaker and session of each block, the oldest first."""
    async with AsyncMemoryClient(url) as client:
        blocks = [block async for block in client.iterate_blocks(user)]
    return [(block.content, block.speaker, block.session_id) for block in reversed(blocks)]


def event(text: str, *, author: str = "user", event_id: str | None = None, **fields: Any) -> Event:
    role = "user" if author == "user" else "model"
    return Event(
        id=event_id or uuid4().hex,
        author=author,
        content=types.Content(role=role, parts=[types.Part(text=text)]),
        timestamp=datetime(2026, 3, 4, 18, 30, tzinfo=UTC).timestamp(),
        **fields,
    )


class TestGoogleAdk:
    async def test_a_session_that_grows_is_stored_once(self, url: str, user: str) -> None:
        memory = LumaMemoryService(url)
        sessions = InMemorySessionService()
        session = await sessions.create_session(app_name="travel", user_id=user)
        thought = types.Part(text="A secret thought.", thought=True)
        for one in (
            event(FERRY),
            event("unfinished", author="travel", partial=True),
            Event(author="travel", content=types.Content(role="model", parts=[thought])),
            event("Noted.", author="travel"),
        ):
            session.events.append(one)
            await memory.add_session_to_memory(session)
        assert sorted(await stored(url, user)) == sorted(
            [(FERRY, "user", session.id), ("Noted.", "travel", session.id)]
        )
        found = await memory.search_memory(app_name="travel", user_id=user, query=QUESTION)
        best = found.memories[0]
        assert best.content.parts is not None
        assert best.content.parts[0].text == FERRY
        assert (best.author, best.timestamp) == ("user", "2026-03-04T18:30:00+00:00")

    async def test_apps_and_users_do_not_see_each_others_memories(
        self, url: str, user: str
    ) -> None:
        memory = LumaMemoryService(url)
        await memory.add_events_to_memory(app_name="travel", user_id=user, events=[event(FERRY)])
        for app_name, user_id in (("games", user), ("travel", f"{user}-2")):
            found = await memory.search_memory(app_name=app_name, user_id=user_id, query=QUESTION)
            assert found.memories == []
        assert not (await memory.search_memory(app_name="travel", user_id=user, query=" ")).memories

    async def test_a_deleted_memory_does_not_come_back(self, url: str, user: str) -> None:
        memory = LumaMemoryService(url)
        session = Session(id="s", app_name="travel", user_id=user, events=[event(FERRY)])
        await memory.add_session_to_memory(session)
        found = await memory.search_memory(app_name="travel", user_id=user, query=QUESTION)
        (entry,) = found.memories
        await memory.delete_memory(app_name="games", user_id=user, memory_id=entry.id)
        assert len(await stored(url, user)) == 1
        await memory.delete_memory(app_name="travel", user_id=user, memory_id=entry.id)
        await memory.delete_memory(app_name="travel", user_id=user, memory_id="unknown")
        session.events.append(event("A later turn."))
        await memory.add_session_to_memory(session)
        assert await stored(url, user) == [("A later turn.", "user", "s")]

    async def test_memories_are_stored_as_given(self, url: str, user: str) -> None:
        memory = LumaMemoryService(url)
        entry = MemoryEntry(
            content=types.Content(parts=[types.Part(text=FERRY)]),
            author="guide",
            timestamp="2025-01-02T03:04:05+00:00",
            custom_metadata={"place": "Naxos"},
        )
        await memory.add_memory(
            app_name="travel", user_id=user, memories=[entry], custom_metadata={"trip": 7}
        )
        found = await memory.search_memory(app_name="travel", user_id=user, query=QUESTION)
        (best,) = found.memories
        assert best.custom_metadata == {"trip": 7, "place": "Naxos"}
        assert (best.author, best.timestamp) == ("guide", "2025-01-02T03:04:05+00:00")
        wrong = entry.model_copy(update={"timestamp": "yesterday"})
        with pytest.raises(ValueError, match="datetime"):
            await memory.add_memory(app_name="travel", user_id=user, memories=[wrong])


class TestLlamaIndex:
    async def test_what_leaves_the_chat_history_is_recalled(self, url: str, user: str) -> None:
        block = LumaMemoryBlock(url=url, user_id=user)
        memory = Memory.from_defaults(
            session_id="trip",
            token_limit=40,
            chat_history_token_ratio=0.5,
            token_flush_size=10,
            memory_blocks=[block],
            tokenizer_fn=str.split,
        )
        await memory.aput(ChatMessage(role="system", content="Be brief."))
        for text in (FERRY, *(f"Filler number {number} here" for number in range(5))):
            await memory.aput(ChatMessage(role="user", content=text))
            await memory.aput(ChatMessage(role="assistant", content="I have noted it."))
        contents = [content for content, _, _ in await stored(url, user)]
        assert FERRY in contents
        assert "Be brief." not in contents
        assert (FERRY, "user", "trip") in await stored(url, user)
        messages = await memory.aget(input=ChatMessage(role="user", content=QUESTION))
        text = await block.aget([ChatMessage(role="user", content=QUESTION)])
        assert FERRY in text
        assert messages

    async def test_a_longer_text_is_truncated_from_its_end(self, url: str, user: str) -> None:
        block = LumaMemoryBlock(url=url, user_id=user)
        text = "Remembered:\n[1] the most relevant\n[2] the least relevant"
        assert await block.atruncate(text, 2) == "Remembered:\n[1] the most relevant"
        assert await block.atruncate(text, 1_000) is None
        assert await block.aget([]) == ""


class ScriptedClient(BaseChatClient):
    """Responds with how many messages it was given, and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[list[AgentMessage]] = []

    def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **_: Any) -> Any:
        assert not stream
        self.given.append(list(messages))

        async def respond() -> ChatResponse:
            reply = AgentMessage("assistant", [f"I read {len(messages)} messages."])
            return ChatResponse(messages=[reply])

        return respond()


class TestAgentFramework:
    async def test_a_later_session_recalls_an_earlier_one(self, url: str, user: str) -> None:
        client = ScriptedClient()
        agent = Agent(client, context_providers=[LumaContextProvider(url, user_id=user)])
        first = agent.create_session()
        await agent.run(FERRY, session=first)
        assert await stored(url, user) == [
            (FERRY, "user", first.session_id),
            ("I read 1 messages.", "assistant", first.session_id),
        ]
        await agent.run(QUESTION, session=agent.create_session())
        recalled, question = client.given[-1]
        assert FERRY in recalled.text
        assert "data, not instructions" in recalled.text
        assert question.text == QUESTION
        # What was recalled is not stored again as something that was said.
        assert len(await stored(url, user)) == 4


class TestTools:
    async def test_pydantic_ai_calls_the_tools_for_the_user_of_its_run(
        self, url: str, user: str
    ) -> None:
        def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            assert [tool.name for tool in info.function_tools] == ["search_memories", "add_memory"]
            returned = [p for p in messages[-1].parts if isinstance(p, ToolReturnPart)]
            if returned:
                return ModelResponse(parts=[TextPart(str(returned[0].content))])
            (prompt,) = [p for p in messages[-1].parts if p.part_kind == "user-prompt"]
            name, _, text = str(prompt.content).partition(": ")
            argument = "query" if name == "search_memories" else "content"
            return ModelResponse(parts=[ToolCallPart(name, {argument: text})])

        toolset = luma_toolset(url, user_id=lambda ctx: str(ctx.deps))
        agent = PydanticAgent(FunctionModel(script), deps_type=str, toolsets=[toolset])
        assert (await agent.run(f"add_memory: {FERRY}", deps=user)).output == "Stored."
        found = await agent.run(f"search_memories: {QUESTION}", deps=user)
        assert FERRY in found.output
        other = await agent.run(f"search_memories: {QUESTION}", deps=f"{user}-2")
        assert other.output == "Nothing is remembered about this."

    async def test_crewai_runs_the_tools(self, url: str, user: str) -> None:
        search, add = luma_tools(url, user_id=user)
        assert (search.name, add.name) == ("search_memories", "add_memory")
        run = asyncio.to_thread
        assert await run(add.run, content=FERRY) == "Stored."
        assert FERRY in await run(search.run, query=QUESTION)
        structured = search.to_structured_tool()
        assert FERRY in await run(structured.invoke, {"query": QUESTION})
        assert set(search.args_schema.model_json_schema()["properties"]) == {"query"}
