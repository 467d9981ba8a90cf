"""What every cache does, whether Redis or this process's own memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from tests.support.redis_server import running_redis, skip_without_redis

from luma_memory.cache.in_process import InProcessCache
from luma_memory.cache.redis import RedisCache
from luma_memory.domain.cache import CacheKey, context_key, context_owner, embedding_key
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.scope import Scope
from luma_memory.ports.cache import Cache
from luma_memory.testing.event_log import EventLog

ADA = Scope("default", "ada")
KEY = context_key(ADA, ["Where does Ada live?", 10])


@pytest.fixture(params=["redis", "memory"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    async with AsyncExitStack() as stack:
        made: Cache = InProcessCache(size_bytes_max=1 << 24, clock=SystemClock())
        if request.param == "redis":
            skip_without_redis()
            server = await stack.enter_async_context(running_redis())
            made = RedisCache(server.url, timeout_seconds=2.0, emit=EventLog())
        stack.push_async_callback(made.close)
        yield made
        await made.close()


async def test_what_is_stored_is_fetched_and_nothing_else(cache: Cache) -> None:
    assert await cache.fetch(KEY) is None
    value = os.urandom(5_000) + b"\x00\r\n"
    await cache.store(KEY, value, ttl_seconds=60)
    assert await cache.fetch(KEY) == value
    for other in (
        context_key(Scope("default", "adam"), ["Where does Ada live?", 10]),
        context_key(Scope("other", "ada"), ["Where does Ada live?", 10]),
        context_key(ADA, ["Where does Ada live?", 1, 0]),
        replace(KEY, kind="embedding"),
        embedding_key("model", "Where does Ada live?"),
    ):
        assert await cache.fetch(other) is None
    await cache.store(KEY, b"", ttl_seconds=60)
    assert await cache.fetch(KEY) == b""


async def test_everything_of_an_owner_is_dropped_and_nothing_else(cache: Cache) -> None:
    mine = [context_key(ADA, [n]) for n in range(30)]
    others = [context_key(Scope("default", "adam"), [1]), embedding_key("model", "x")]
    for key in (*mine, *others):
        await cache.store(key, b"kept", ttl_seconds=60)
    assert await cache.drop_all("context", context_owner(ADA)) == 30
    assert [await cache.fetch(key) for key in mine] == [None] * 30
    assert [await cache.fetch(key) for key in others] == [b"kept"] * 2
    assert await cache.drop_all("context", context_owner(ADA)) == 0


async def test_a_value_ends_with_its_time(cache: Cache) -> None:
    await cache.store(KEY, b"short", ttl_seconds=0.05)
    await cache.store(replace(KEY, digest="0"), b"long", ttl_seconds=60)
    async with asyncio.timeout(30):
        while await cache.fetch(KEY) is not None:  # noqa: ASYNC110 - another's clock
            await asyncio.sleep(0.01)
    assert await cache.fetch(replace(KEY, digest="0")) == b"long"


async def test_a_name_is_claimed_by_one_until_it_is_let_go(cache: Cache) -> None:
    assert await cache.claim(KEY, token="a", seconds=60)
    assert not await cache.claim(KEY, token="b", seconds=60)
    assert await cache.claim(replace(KEY, digest="0"), token="b", seconds=60)
    await cache.let_go(KEY, token="b")  # not his
    assert not await cache.claim(KEY, token="b", seconds=60)
    await cache.let_go(KEY, token="a")
    await cache.let_go(KEY, token="a")
    assert await cache.claim(KEY, token="b", seconds=60)
    assert await cache.fetch(KEY) is None  # a claim is no value


async def test_a_claim_outlives_its_holder_for_its_time_only(cache: Cache) -> None:
    assert await cache.claim(KEY, token="dead", seconds=0.05)
    async with asyncio.timeout(30):
        while not await cache.claim(KEY, token="b", seconds=60):  # noqa: ASYNC110 - another's clock
            await asyncio.sleep(0.01)
    await cache.let_go(KEY, token="dead")  # back from the dead, and too late
    assert not await cache.claim(KEY, token="c", seconds=60)


async def test_a_renewed_claim_lasts_from_then_on(cache: Cache) -> None:
    assert await cache.claim(KEY, token="a", seconds=1)
    await cache.renew(KEY, token="b", seconds=0.001)  # not his
    await cache.renew(KEY, token="a", seconds=60)
    await asyncio.sleep(1.1)  # beyond the first one
    assert not await cache.claim(KEY, token="b", seconds=60)
    await cache.let_go(KEY, token="a")
    await cache.renew(KEY, token="a", seconds=60)  # a free name
    assert await cache.claim(KEY, token="b", seconds=60)


async def test_it_reports_its_state(cache: Cache) -> None:
    for number in range(7):
        await cache.store(replace(KEY, digest=str(number)), b"value", ttl_seconds=60)
    facts = await cache.facts()
    assert (facts.connected, facts.keys_count) == (True, 7)
    assert facts.memory_used_bytes is not None
    assert facts.memory_used_bytes > 0


async def test_a_value_too_large_is_not_kept(cache: Cache) -> None:
    await cache.store(KEY, os.urandom(1 << 22), ttl_seconds=60)
    assert await cache.fetch(KEY) is None


async def test_many_at_once_get_their_own(cache: Cache) -> None:
    keys = [context_key(ADA, [number]) for number in range(90)]
    await asyncio.gather(*(cache.store(key, str(key).encode(), ttl_seconds=60) for key in keys))
    values = await asyncio.gather(*map(cache.fetch, keys * 5))
    assert values == [str(key).encode() for key in keys] * 5


def test_keys_hold_digests_only_and_differ_by_type_and_border() -> None:
    assert str(KEY).count(":") == 2
    assert "ada" not in str(KEY).lower().partition(":")[2]
    states = [
        context_key(ADA, parts)
        for parts in ([1], ["1"], [True], [1.0], [None], ["None"], ["a", "b"], ["ab"], ["a,b"], [])
    ]
    assert len(set(states)) == len(states)
    assert context_key(ADA, ["\ud800"]) != context_key(ADA, ["\\ud800"])
    assert isinstance(KEY, CacheKey)
