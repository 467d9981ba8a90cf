"""The cache in Redis.

The client library's own retries are disabled, because a request is waiting: by default it
tries eleven times, each with timeouts of five seconds. Here every command has one deadline of
tens of milliseconds and one attempt. After some consecutive failures no more commands are
sent (a circuit breaker), and a background probe detects when Redis is back.

A server that turns out to be one of a cluster is joined as such: `REDIS_URL` names any of its
nodes.

A command that is given up, at its deadline or because its caller was cancelled, closes its
connection: a late reply must never be read by the next caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, RedisError, ResponseError

from luma_memory.concurrency.deadline import within
from luma_memory.concurrency.retries import jittered
from luma_memory.domain.cache import CacheFacts, CacheKey, EntryKind
from luma_memory.domain.errors import CacheUnavailable, SetupError
from luma_memory.telemetry.events import CacheReturned, CacheUnreachable, Emit

ResultT = TypeVar("ResultT")

PREFIX: Final = "luma-memory:"
# Contexts have a few kilobytes; anything larger would delay the others.
VALUE_BYTES_MAX: Final = 1 << 20
# Commands at the same time; further ones wait their turn, within their deadline.
CONNECTIONS_MAX: Final = 32
# Consecutive, before commands stop. A single one may be a delay of this process.
FAILURES_MAX: Final = 3
# A deadline passes in steps: an event loop that is late by all of it has still polled its sockets
# that often before the command is given up.
_STEPS: Final = 4
# Steps that came so late, in steps' lengths, say more about this process than about Redis. As many
# as there are steps are repeated.
_LATE_STEPS: Final = 1.0
_PROBE_SECONDS: Final = 1.0
_PROBE_PAUSE_SECONDS: Final = 0.5
_PROBE_PAUSE_SECONDS_MAX: Final = 10.0
_FACTS_SECONDS: Final = 0.5
_CLOSE_SECONDS: Final = 1.0
_DROP_SECONDS: Final = 5.0
# Keys that one step of the scan for an owner's entries reads.
_SCAN_KEYS: Final = 1_000
# A full Redis rejects every write: reporting it once a minute is enough.
_REFUSAL_LOGGED_SECONDS: Final = 60.0
_LET_GO: Final = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"

_RENEW: Final = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('pexpire', KEYS[1], ARGV[2]) end"
)


class _Deadline:
    """Raises TimeoutError inside, instead of the pending await, once the time is up.

    Like `asyncio.timeout`, but in steps and without a task, which would cost a fifth of what
    the command costs.
    """

    def __init__(self, seconds: float) -> None:
        self._step_seconds = seconds / _STEPS
        self._steps_left = self._repeats_left = _STEPS
        self._is_over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._step_seconds, self._step)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self._is_over:
            return
        # Cancellation by another task propagates.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _step(self) -> None:
        late_seconds = self._loop.time() - self._timer.when()
        if late_seconds > _LATE_STEPS * self._step_seconds and self._repeats_left > 0:
            self._repeats_left -= 1
        else:
            self._steps_left -= 1
        if self._steps_left > 0:
            self._timer = self._loop.call_later(self._step_seconds, self._step)
            return
        self._is_over = True
        self._task.cancel()


class RedisCache:
    """`ports.cache.Cache` in Redis 6.2 or newer. Each command names one key, as a cluster needs.

    timeout_seconds: for one command, connecting included.
    """

    def __init__(self, url: str, *, timeout_seconds: float, emit: Emit) -> None:
        """Opens no connection yet. Raises SetupError for a URL that cannot be used."""
        self._timeout_seconds = timeout_seconds
        self._emit = emit
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self._failures = 0
        self._refusal_logged_at: float | None = None
        self._probe: asyncio.Task[None] | None = None
        self._is_closed = False
        self._url = url
        try:
            self._client: Redis | RedisCluster = Redis.from_url(url, **_options(retries=0))
        except ValueError as error:
            raise SetupError(
                "REDIS_URL is wrong: it must be a URL that begins with redis://, rediss:// or"
                " unix://",
                code="wrong_setting",
            ) from error

    async def fetch(self, key: CacheKey) -> bytes | None:
        try:
            value: Any = await self._run(lambda: self._client.get(_name(key)))
        except ResponseError:  # of another type, so not an entry of this service
            return None
        return value if isinstance(value, bytes) else None

    async def store(self, key: CacheKey, value: bytes, *, ttl_seconds: float) -> None:
        if len(value) > VALUE_BYTES_MAX:
            return
        expires_ms = max(1, round(ttl_seconds * 1000))
        await self._write(lambda: self._client.set(_name(key), value, px=expires_ms))

    async def claim(self, key: CacheKey, *, token: str, seconds: float) -> bool:
        expires_ms = max(1, round(seconds * 1000))
        taken = await self._write(
            lambda: self._client.set(_claim_name(key), token, nx=True, px=expires_ms)
        )
        return bool(taken)

    async def renew(self, key: CacheKey, *, token: str, seconds: float) -> None:
        expires_ms = str(max(1, round(seconds * 1000)))
        await self._write(lambda: self._client.eval(_RENEW, 1, _claim_name(key), token, expires_ms))

    async def let_go(self, key: CacheKey, *, token: str) -> None:
        await self._write(lambda: self._client.eval(_LET_GO, 1, _claim_name(key), token))

    async def drop_all(self, kind: EntryKind, owner: str) -> int:
        if self._probe is not None or self._is_closed:
            raise CacheUnavailable("The cache is unavailable for now")
        try:
            return await within(self._drop_each(f"{PREFIX}{kind}:{owner}:*"), _DROP_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            raise CacheUnavailable("The cache did not drop all entries") from error

    async def _drop_each(self, pattern: str) -> int:
        # A single node does not see the keys of the others, and reports no error.
        if isinstance(self._client, Redis) and await self._is_of_a_cluster():
            await self._join_cluster()
        dropped = 0
        async for name in self._client.scan_iter(match=pattern, count=_SCAN_KEYS):
            dropped += int(await self._client.delete(name))
        return dropped

    async def facts(self) -> CacheFacts:
        try:
            memory, keys = await within(self._measured(), _FACTS_SECONDS)
        except (RedisError, OSError, TimeoutError):
            return CacheFacts("redis", False, None, None)
        return CacheFacts("redis", self._probe is None, keys, memory)

    async def close(self) -> None:
        self._is_closed = True
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        try:
            await within(self._client.aclose(), _CLOSE_SECONDS)
        except (RedisError, OSError, TimeoutError):
            return  # the server is already gone

    async def _measured(self) -> tuple[int, int]:
        client = self._client
        if isinstance(client, Redis):
            info: dict[str, Any] = await client.info("memory")
            return int(info["used_memory"]), int(await client.dbsize())
        await client.initialize()
        nodes = client.get_primaries()
        replies = (client.info("memory", target_nodes=node) for node in nodes)
        memory = sum(int(info["used_memory"]) for info in await asyncio.gather(*replies))
        keys = [int(await client.dbsize(target_nodes=node)) for node in nodes]
        return memory, sum(keys)

    async def _is_of_a_cluster(self) -> bool:
        info: dict[str, Any] = await self._client.info("cluster")
        return bool(info.get("cluster_enabled"))

    async def _join_cluster(self) -> None:
        alone, self._client = (
            self._client,
            # A slot that has moved is followed once.
            RedisCluster.from_url(self._url, **_options(retries=1)),
        )
        await within(alone.aclose(), _CLOSE_SECONDS)
        await self._client.initialize()

    async def _write(self, command: Callable[[], Awaitable[ResultT]]) -> ResultT:
        try:
            return await self._run(command)
        except ResponseError as error:
            # Full with eviction disabled, or a replica: reads still work.
            self._log_refusal(type(error).__name__)
            raise CacheUnavailable("The cache refuses to write") from error

    async def _run(self, command: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """One command within the deadline. Raises CacheUnavailable, or ResponseError."""
        if self._probe is not None or self._is_closed:
            raise CacheUnavailable("The cache is unavailable for now")
        has_begun = False
        try:
            with _Deadline(self._timeout_seconds):
                async with self._turns:
                    has_begun = True
                    result = await command()
        except TimeoutError as error:
            if has_begun:  # waiting for a connection is not a failure of Redis
                self._failed("no reply in time")
            raise CacheUnavailable("The cache does not reply in time") from error
        except AskError as error:  # or MOVED: the key is on another node
            self._start_joining()
            raise CacheUnavailable("The cache is a cluster that is being joined") from error
        except ResponseError:
            self._failures = 0
            raise
        except (RedisError, OSError) as error:
            self._failed(type(error).__name__)
            raise CacheUnavailable("The connection to the cache failed") from error
        self._failures = 0
        return result

    def _log_refusal(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if (
            self._refusal_logged_at is None
            or now - self._refusal_logged_at > _REFUSAL_LOGGED_SECONDS
        ):
            self._refusal_logged_at = now
            self._emit(CacheUnreachable(f"it refuses to write ({reason})"))

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._failures >= FAILURES_MAX and self._probe is None and not self._is_closed:
            self._emit(CacheUnreachable(reason))
            self._probe = asyncio.create_task(self._probe_until_available())

    def _start_joining(self) -> None:
        if self._probe is None and not self._is_closed and isinstance(self._client, Redis):
            self._probe = asyncio.create_task(self._joined())

    async def _joined(self) -> None:
        try:
            await within(self._join_cluster(), _PROBE_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            self._emit(CacheUnreachable(type(error).__name__))
            await self._probe_until_available()
        else:
            self._failures, self._probe = 0, None

    async def _probe_until_available(self) -> None:
        pause_seconds = _PROBE_PAUSE_SECONDS
        while True:
            await asyncio.sleep(jittered(pause_seconds, low=0.75, high=1.25))
            try:
                # The first may have to connect; the second has to be as quick as a request needs.
                await within(self._client.ping(), _PROBE_SECONDS)
                await within(self._client.ping(), self._timeout_seconds)
            except (RedisError, OSError, TimeoutError):
                pause_seconds = min(pause_seconds * 2, _PROBE_PAUSE_SECONDS_MAX)
                continue
            self._failures = 0
            self._probe = None
            self._emit(CacheReturned())
            return


def _options(*, retries: int) -> dict[str, Any]:
    return {
        # Deadlines are set here, for connecting, sending and reading together.
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), retries),
        # More than commands: the probe and `facts` do not wait for a turn.
        "max_connections": CONNECTIONS_MAX + 8,
        "client_name": "luma-memory",
        "protocol": 2,
        # Each would add a round trip to every new connection.
        "driver_info": None,
    }


def _name(key: CacheKey) -> str:
    return f"{PREFIX}{key}"


def _claim_name(key: CacheKey) -> str:
    return f"{PREFIX}claim:{key}"
