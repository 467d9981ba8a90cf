"""Redis refused, hanging, reset, full, frozen, restarted: commands end in time, or at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.machine_load import within
from tests.support.redis_server import RedisServer, free_port, running_redis, skip_without_redis
from tests.support.tcp_proxy import hanging_server, proxied

from luma_memory.cache.redis import FAILURES_MAX, PREFIX, RedisCache
from luma_memory.domain.cache import CacheKey, context_key
from luma_memory.domain.errors import CacheUnavailable, SetupError
from luma_memory.domain.scope import Scope
from luma_memory.telemetry.events import CacheReturned, CacheUnreachable
from luma_memory.testing.event_log import EventLog

TIMEOUT_SECONDS = 0.04
# One deadline, and what a busy machine adds to it.
RESPONSE_SECONDS_MAX = TIMEOUT_SECONDS + 0.25


def _key(number: int) -> CacheKey:
    return context_key(Scope("default", "ada"), [number])


@asynccontextmanager
async def _cache(
    url: str, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> AsyncIterator[tuple[RedisCache, EventLog]]:
    events = EventLog()
    cache = RedisCache(url, timeout_seconds=timeout_seconds, emit=events)
    try:
        yield cache, events
    finally:
        await cache.close()


async def _refused(command: Awaitable[Any]) -> float:
    """Seconds until a command fails because the cache is unavailable."""
    started = time.perf_counter()
    with pytest.raises(CacheUnavailable):
        await command
    return time.perf_counter() - started


async def test_an_unresponsive_server_costs_one_deadline_and_then_nothing() -> None:
    async with hanging_server() as port, _cache(f"redis://127.0.0.1:{port}") as (cache, events):
        for _ in range(FAILURES_MAX):
            assert await _refused(cache.fetch(_key(1))) < within(RESPONSE_SECONDS_MAX)
        (unreachable,) = events.of(CacheUnreachable)
        assert unreachable.message() == "Cache unavailable: no reply in time"
        taken = [await _refused(cache.store(_key(1), b"v", ttl_seconds=9)) for _ in range(200)]
        assert sorted(taken)[100] < within(TIMEOUT_SECONDS / 10)
        started = time.perf_counter()
        assert not (await cache.facts()).connected
        assert time.perf_counter() - started < within(1)


async def test_a_hundred_at_once_pay_one_deadline_together() -> None:
    async with hanging_server() as port, _cache(f"redis://127.0.0.1:{port}") as (cache, _):
        started = time.perf_counter()
        responses = await asyncio.gather(
            *(cache.fetch(_key(n)) for n in range(100)), return_exceptions=True
        )
        # One after the other they would take a hundred of them.
        assert time.perf_counter() - started < within(10 * RESPONSE_SECONDS_MAX)
        assert {type(response) for response in responses} == {CacheUnavailable}


async def test_a_refused_connection_is_reported_at_once_and_recovers() -> None:
    skip_without_redis()
    async with running_redis() as server:
        await server.stop()
        async with _cache(server.url) as (cache, events):
            for _ in range(FAILURES_MAX):
                await _refused(cache.fetch(_key(1)))
            await server.start()
            await events.wait_for(CacheReturned)
            await cache.store(_key(1), b"value", ttl_seconds=60)
            assert await cache.fetch(_key(1)) == b"value"
            assert (await cache.facts()).connected


async def test_a_frozen_server_is_given_up_and_taken_back(redis_server: RedisServer) -> None:
    async with _cache(redis_server.url) as (cache, events):
        await cache.store(_key(1), b"one", ttl_seconds=60)
        redis_server.freeze()
        for _ in range(FAILURES_MAX):
            assert await _refused(cache.fetch(_key(1))) < within(RESPONSE_SECONDS_MAX)
        redis_server.thaw()
        await events.wait_for(CacheReturned)
        # The frozen server now sends the responses to earlier commands; no caller gets them.
        assert await cache.fetch(_key(1)) == b"one"
        assert await cache.fetch(_key(2)) is None


async def test_a_restarted_or_flushed_server_has_lost_its_entries_and_nothing_else(
    redis_server: RedisServer,
) -> None:
    async with _cache(redis_server.url) as (cache, _):
        await cache.store(_key(1), b"one", ttl_seconds=60)
        await redis_server.stop()
        await redis_server.start()
        # Old connections are reset: one command may fail for that.
        first = (await asyncio.gather(cache.fetch(_key(1)), return_exceptions=True))[0]
        assert first is None or isinstance(first, CacheUnavailable)
        await cache.store(_key(1), b"again", ttl_seconds=60)
        assert await cache.fetch(_key(1)) == b"again"
        async with redis_server.client() as client:
            await client.flushall()
        assert await cache.fetch(_key(1)) is None


async def test_a_full_server_that_keeps_what_it_has_is_still_read() -> None:
    skip_without_redis()
    async with (
        running_redis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server,
        _cache(server.url, timeout_seconds=2) as (cache, events),
    ):
        await cache.store(_key(0), b"first", ttl_seconds=60)
        stored, refused = 0, 0
        for number in range(1, 80):
            try:
                await cache.store(_key(number), random.randbytes(50_000), ttl_seconds=60)
                stored += 1
            except CacheUnavailable:
                refused += 1
        assert stored > 5
        assert refused > 5
        assert await cache.fetch(_key(0)) == b"first"
        (unreachable,) = events.of(CacheUnreachable)
        assert unreachable.reason == "it refuses to write (OutOfMemoryError)"
        assert (await cache.facts()).connected


async def test_a_full_server_that_evicts_takes_everything() -> None:
    skip_without_redis()
    async with (
        running_redis("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as server,
        _cache(server.url, timeout_seconds=2) as (cache, events),
    ):
        for number in range(100):
            await cache.store(_key(number), random.randbytes(50_000), ttl_seconds=60)
        values = [await cache.fetch(_key(number)) for number in range(100)]
        assert 0 < values.count(None) < 100
        assert events.of(CacheUnreachable) == []


async def test_values_of_another_type_under_our_names_are_no_values(
    redis_server: RedisServer,
) -> None:
    async with _cache(redis_server.url) as (cache, events), redis_server.client() as client:
        name = f"{PREFIX}{_key(1)}"
        await client.rpush(name, "a", "list")
        assert await cache.fetch(_key(1)) is None
        await cache.store(_key(1), b"ours", ttl_seconds=60)
        assert await cache.fetch(_key(1)) == b"ours"
        assert events.events == []


async def test_a_slow_server_costs_no_more_than_the_deadline(redis_server: RedisServer) -> None:
    async with (
        proxied(redis_server.port) as proxy,
        _cache(f"redis://127.0.0.1:{proxy.port}") as (cache, _),
    ):
        await cache.store(_key(1), b"one", ttl_seconds=60)
        proxy.delay = lambda: 0.5
        assert await _refused(cache.fetch(_key(1))) < within(RESPONSE_SECONDS_MAX)
        proxy.delay = lambda: 0.0
        assert await cache.fetch(_key(1)) == b"one"
        proxy.delay = lambda: 0.5
        for _ in range(FAILURES_MAX):
            await _refused(cache.fetch(_key(1)))
        assert await _refused(cache.fetch(_key(1))) < within(TIMEOUT_SECONDS)


@pytest.mark.parametrize("reads", [400, pytest.param(2_000, marks=pytest.mark.slow)])
async def test_after_cancelled_reads_every_response_reaches_its_caller(
    redis_server: RedisServer, reads: int
) -> None:
    moments = random.Random(6)
    async with proxied(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with _cache(url, timeout_seconds=5.0) as (cache, events):
            values = {n: b"%d:" % n + bytes([n]) * (n * 997) for n in range(50)}
            for number, value in values.items():
                await cache.store(_key(number), value, ttl_seconds=600)
            # In pieces, so that many are cancelled with half an answer read.
            proxy.piece_bytes, proxy.delay = 4_000, lambda: moments.random() * 0.0005
            for _ in range(reads // 20):
                numbers = [moments.randrange(50) for _ in range(20)]
                tasks = [asyncio.create_task(cache.fetch(_key(number))) for number in numbers]
                for task in tasks:
                    await asyncio.sleep(moments.random() * 0.001)
                    task.cancel()
                for number, response in zip(
                    numbers, await asyncio.gather(*tasks, return_exceptions=True), strict=True
                ):
                    if not isinstance(response, asyncio.CancelledError):
                        assert response == values[number]
                checked = moments.randrange(50)
                assert await cache.fetch(_key(checked)) == values[checked]
            proxy.delay = lambda: 0.0
            responses = await asyncio.gather(*(cache.fetch(_key(number)) for number in values))
            assert responses == list(values.values())
            assert events.events == []


async def test_an_invalid_url_is_reported_without_its_secret() -> None:
    with pytest.raises(SetupError) as caught:
        RedisCache("http://:topsecret@127.0.0.1", timeout_seconds=1, emit=EventLog())
    assert "topsecret" not in str(caught.value)


async def test_a_wrong_password_is_reported_and_never_shown(redis_server: RedisServer) -> None:
    async with redis_server.client() as client:
        await client.config_set("requirepass", "right")
    url = f"redis://:topsecret@127.0.0.1:{redis_server.port}"
    async with _cache(url) as (cache, events):
        for _ in range(FAILURES_MAX):
            await _refused(cache.fetch(_key(1)))
        (unreachable,) = events.of(CacheUnreachable)
        assert "AuthenticationError" in unreachable.message()
        assert "topsecret" not in repr(events.events)


async def test_a_port_without_a_listener_is_detected_quickly() -> None:
    async with _cache(f"redis://127.0.0.1:{free_port()}") as (cache, _):
        assert await _refused(cache.fetch(_key(1))) < within(RESPONSE_SECONDS_MAX)
