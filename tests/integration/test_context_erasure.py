"""A scope is erased while Redis hangs, and requested during an outage of PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.support.redis_server import RedisServer

from luma_memory.cache.redis import RedisCache
from luma_memory.domain.cache import CacheKey, context_key, context_owner
from luma_memory.domain.errors import CacheUnavailable
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.context.erasures import Erasures
from luma_memory.testing.event_log import EventLog

SCOPE = Scope("default", "ada")
OWNER = context_owner(SCOPE)
TTL = timedelta(minutes=10)


def _key(number: int) -> CacheKey:
    return context_key(SCOPE, [number])


def _cache(server: RedisServer) -> RedisCache:
    return RedisCache(server.url, timeout_seconds=0.5, emit=EventLog())


async def _keys(server: RedisServer) -> list[bytes]:
    async with server.client() as client:
        keys: list[bytes] = await client.keys("luma-memory:context:*")
        return keys


async def test_entries_are_deleted_when_a_hanging_redis_is_back(redis_server: RedisServer) -> None:
    cache = _cache(redis_server)
    erasures = Erasures(cache, ttl=TTL)
    for number in range(3):
        await cache.store(_key(number), b"text", ttl_seconds=600)
    redis_server.freeze()
    assert await erasures.erase(OWNER) == 0
    assert await erasures.may_be_erased(OWNER)
    redis_server.thaw()
    async with asyncio.timeout(60):
        while await _keys(redis_server):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await erasures.close()
    await cache.close()


async def test_other_processes_learn_of_an_erasure_from_the_cache(
    redis_server: RedisServer,
) -> None:
    cache, another = _cache(redis_server), _cache(redis_server)
    erasures, elsewhere = Erasures(cache, ttl=TTL), Erasures(another, ttl=TTL)
    await cache.store(_key(1), b"text", ttl_seconds=600)
    assert not await elsewhere.may_be_erased(OWNER)
    assert await erasures.erase(OWNER) == 1
    assert await elsewhere.may_be_erased(OWNER)
    assert not await elsewhere.may_be_erased(context_owner(Scope("default", "bob")))
    await redis_server.stop()
    with pytest.raises(CacheUnavailable):
        await another.fetch(_key(1))
    assert await elsewhere.may_be_erased(OWNER), "nobody can say that it was not"
    for one in (erasures, elsewhere, cache, another):
        await one.close()
