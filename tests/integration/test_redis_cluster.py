"""The cache on a Redis that is a cluster: what joining it takes. The rest is in test_cache_port."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

import pytest
from tests.support.redis_server import RedisServer, running_cluster, skip_without_redis

from luma_memory.cache.redis import RedisCache
from luma_memory.domain.cache import context_key, context_owner
from luma_memory.domain.errors import CacheUnavailable
from luma_memory.domain.scope import Scope
from luma_memory.telemetry.events import Event
from luma_memory.testing.event_log import EventLog

ADA = Scope("default", "ada")
KEYS = [context_key(ADA, [n]) for n in range(60)]


@pytest.fixture
async def nodes() -> AsyncIterator[list[RedisServer]]:
    skip_without_redis()
    async with running_cluster(3) as started:
        yield started


@contextlib.asynccontextmanager
async def opened(nodes: list[RedisServer], events: EventLog) -> AsyncIterator[RedisCache]:
    cache = RedisCache(nodes[0].url, timeout_seconds=1.0, emit=events)
    try:
        yield cache
    finally:
        await cache.close()


async def _stored_everywhere(cache: RedisCache) -> None:
    """Store all keys; while the cluster is being joined that is refused."""
    for n, key in enumerate(KEYS):
        async with asyncio.timeout(20):
            while True:
                try:
                    await cache.store(key, b"%d" % n, ttl_seconds=60)
                except CacheUnavailable:
                    await asyncio.sleep(0.01)
                else:
                    break


async def _sizes(nodes: list[RedisServer]) -> list[int]:
    sizes = []
    for node in nodes:
        async with node.client() as client:
            sizes.append(await client.dbsize())
    return sizes


async def test_a_node_of_a_cluster_is_joined_without_a_word(nodes: list[RedisServer]) -> None:
    events = EventLog()
    async with opened(nodes, events) as cache:
        await _stored_everywhere(cache)
        assert min(await _sizes(nodes)) > 0
        assert [await cache.fetch(key) for key in KEYS] == [b"%d" % n for n in range(len(KEYS))]
        facts = await cache.facts()
        assert (facts.connected, facts.keys_count) == (True, len(KEYS))
        assert await cache.claim(KEYS[0], token="a", seconds=60)
        assert not await cache.claim(KEYS[0], token="b", seconds=60)
        await cache.let_go(KEYS[0], token="a")
        assert await cache.claim(KEYS[0], token="b", seconds=60)
    assert events.of(Event) == []


async def test_an_owners_entries_leave_all_nodes(nodes: list[RedisServer]) -> None:
    async with opened(nodes, EventLog()) as cache:
        await _stored_everywhere(cache)
    # By a process without earlier commands, as the one that erases may be.
    async with opened(nodes, EventLog()) as fresh:
        assert await fresh.drop_all("context", context_owner(ADA)) == len(KEYS)
    assert await _sizes(nodes) == [0, 0, 0]


async def test_after_cancelled_reads_every_response_reaches_its_caller(
    nodes: list[RedisServer],
) -> None:
    async with opened(nodes, EventLog()) as cache:
        await _stored_everywhere(cache)
        for turn in range(500):
            read = asyncio.ensure_future(cache.fetch(KEYS[turn % len(KEYS)]))
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            read.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await read
            n = (turn * 7) % len(KEYS)
            assert await cache.fetch(KEYS[n]) == b"%d" % n


# The library looks at the nodes anew, and leaves closing the sockets of the old ones to Python.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_node_that_is_gone_costs_a_miss_and_no_error_of_another_kind(
    nodes: list[RedisServer],
) -> None:
    async with opened(nodes, EventLog()) as cache:
        await _stored_everywhere(cache)
        await nodes[2].stop()
        for key in KEYS:
            with contextlib.suppress(CacheUnavailable):
                await cache.fetch(key)
    del cache
    gc.collect()
