"""LumaSession with the real Agents SDK: its own SQLite session is the oracle."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

from agents import SQLiteSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luma_memory.integrations.openai_agents import LumaSession

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)
ITEMS = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": JSON})
STEPS = st.one_of(
    st.tuples(st.just("add"), st.lists(ITEMS, max_size=4)),
    st.tuples(st.just("pop"), st.none()),
    st.tuples(st.just("get"), st.one_of(st.none(), st.integers(-1, 6))),
    st.tuples(st.just("clear"), st.none()),
)


def test_it_agrees_with_the_sdks_own_session(url: str, user: str) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps=st.lists(STEPS, max_size=12))
    def compare(steps: list[tuple[str, Any]]) -> None:
        asyncio.run(run(steps))

    async def run(steps: list[tuple[str, Any]]) -> None:
        session = LumaSession(uuid4().hex, url, user_id=user)
        oracle = SQLiteSession("oracle")
        for step, argument in [*steps, ("get", None)]:
            results = []
            for one in (session, oracle):
                match step:
                    case "add":
                        results.append(await one.add_items(argument))
                    case "pop":
                        results.append(await one.pop_item())
                    case "get":
                        results.append(await one.get_items(argument))
                    case _:
                        results.append(await one.clear_session())
            ours, theirs = (json.dumps(result) for result in results)
            assert ours == theirs, step
        oracle.close()
        await session.aclose()

    compare()


async def test_an_item_is_popped_once(url: str, user: str) -> None:
    session = LumaSession("s", url, user_id=user)
    items: list[Any] = [{"role": "user", "content": str(n)} for n in range(30)]
    await session.add_items(items)
    popped = await asyncio.gather(*(session.pop_item() for _ in range(40)))
    found = [item for item in popped if item is not None]
    assert sorted(item["content"] for item in found) == sorted(item["content"] for item in items)
    assert await session.get_items() == []
    await session.aclose()


async def test_concurrent_appends_keep_each_calls_items_together(url: str, user: str) -> None:
    session = LumaSession("s", url, user_id=user)

    async def append(name: int) -> None:
        turn: list[Any] = [{"role": "user", "content": [name, n]} for n in range(3)]
        await session.add_items(turn)

    await asyncio.gather(*(append(name) for name in range(20)))
    contents: list[Any] = [item["content"] for item in await session.get_items()]
    assert len(contents) == 60
    for start in range(0, 60, 3):
        (name, _), *_ = contents[start : start + 3]
        assert contents[start : start + 3] == [[name, 0], [name, 1], [name, 2]]
    assert [item["content"] for item in await session.get_items(4)] == contents[-4:]
    await session.aclose()


async def test_more_items_than_a_page(url: str, user: str) -> None:
    session = LumaSession("long", url, user_id=user)
    items: list[Any] = [{"role": "user", "content": n} for n in range(2_300)]
    await session.add_items(items)
    assert await session.get_items() == items
    assert await session.get_items(1_500) == items[-1_500:]
    await session.clear_session()
    assert await session.get_items() == []
    await session.aclose()
