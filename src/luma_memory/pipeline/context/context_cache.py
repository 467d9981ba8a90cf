"""Cached contexts, returned only if the scope has not changed since they were computed.

An entry contains the context and the scope's version from before it was computed. Each request
reads the entry and the current version in parallel, and returns the entry only if the two versions
are equal. There is no invalidation message, so none can be lost.

- A write that commits before a request raises the version that the request reads, so the request
  never gets a stale context.
- A write that commits during a computation raises the version above the entry's, so the entry is
  never returned. The version is read before the blocks.
- Versions are never reused (see `memory_next_version`), so equal versions mean: no change.
- Time changes contexts without a write: a block expires, "last week" becomes another week. An entry
  expires with the next block of the scope; if the query names a time, also with its tick (see
  TICK). Apart from that it lives for the configured time, in every copy.

With a remote cache, a process also keeps its own copies of entries and returns them by the same
rule: then only the version is read, and an unavailable cache does not matter.

Concurrent requests for the same context share one computation: in this process they await its task,
in others its entry while the claim in the cache lasts, which its holder renews. If the claiming
process dies, they wait for the rest of the claim; if the cache is unavailable, each process
computes by itself. It is unavailable after three failures in a row: of a process that has hundreds
of requests at once, single commands may miss their deadline. Requests for the same entry share a
read.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from luma_memory.concurrency.deadline import within
from luma_memory.concurrency.retries import jittered
from luma_memory.domain.cache import CacheCounts, CacheKey, context_owner
from luma_memory.domain.clock import Clock
from luma_memory.domain.context import Context
from luma_memory.domain.errors import CacheUnavailable, StoreUnavailable, UnavailableError
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.context.context_entry import Entry, decode_entry, encode_entry
from luma_memory.pipeline.context.erasures import Erasures
from luma_memory.pipeline.context.hit_counter import HitCounter
from luma_memory.pipeline.context.local_entries import LocalEntries
from luma_memory.ports.cache import Cache
from luma_memory.ports.search import ScopeState, ScopeVersions
from luma_memory.telemetry.events import CacheHit, CacheMiss, Emit

MissReason = Literal["absent", "changed", "expired", "unreadable", "unavailable"]

# PostgreSQL takes a millisecond for this. After this timeout a request gets the entry unchecked, or
# an error if there is none.
STATE_SECONDS: Final = 1.0
# After a timeout the next reads wait less, until one succeeds.
STATE_SECONDS_AFTER_TIMEOUT: Final = 0.25
# For queries that name a time, "now" is constant within a tick: all requests of one tick get the
# same context, cached or not. Midnight is on a tick in every time zone.
TICK: Final = timedelta(minutes=15)
# How long a claim lasts if its holder neither renews nor releases it.
CLAIM_SECONDS: Final = 2.0
# A computation has its own deadline; this is added for those that exceed it.
GRACE_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.02
_RENEWALS: Final = 4  # of a claim, within its time
_CLAIM_ATTEMPTS: Final = 3  # at a cache that has just replied
_CLAIM_ATTEMPTS_IN_DOUBT: Final = 2  # at one that has just failed


@dataclass(frozen=True, slots=True)
class Computed:
    """The result of a computation."""

    context: Context
    is_complete: bool  # False: it goes to the waiting requests and is not cached
    names_times: bool = False  # the query names a time, so the context depends on the current one


Compute = Callable[[], Awaitable[Computed]]


@dataclass(frozen=True, slots=True)
class CacheResult:
    """A context and its origin."""

    context: Context
    age_seconds: float | None  # None: computed for this request
    is_checked: bool = True  # False: PostgreSQL did not respond


@dataclass(frozen=True, slots=True)
class _Lookup:
    """The result of one lookup."""

    state: ScopeState | None  # None: PostgreSQL did not respond
    entry: Entry | None
    reason: MissReason  # why there is no entry, or none behind the local copy


@dataclass(frozen=True, slots=True)
class _Computation:
    """A running computation, and the state that its result is valid for."""

    state: ScopeState
    valid_until: datetime
    task: asyncio.Task[CacheResult]


class ContextCache:
    """Caches contexts and checks them against the scope's version at every use.

    local_bytes_max: size of the local copies in front of a remote cache; 0 if the cache itself is
    in this process.
    """

    def __init__(
        self,
        cache: Cache,
        versions: ScopeVersions,
        *,
        ttl: timedelta,
        counter: HitCounter,
        clock: Clock,
        emit: Emit,
        local_bytes_max: int = 0,
    ) -> None:
        self._cache = cache
        self._local = LocalEntries(size_bytes_max=local_bytes_max)
        self._versions = versions
        self._ttl = ttl
        self._counter = counter
        self._clock = clock
        self._emit = emit
        self._erasures = Erasures(cache, ttl=ttl)
        self._timed_out = False
        self._computations: dict[Hashable, _Computation] = {}
        self._reads: dict[CacheKey, asyncio.Task[tuple[Entry | None, MissReason]]] = {}

    async def forget(self, scope: Scope) -> int:
        """Delete the entries of an erased scope; returns how many.

        If the cache is unavailable, the entries are deleted when it is back.
        """
        owner = context_owner(scope)
        self._local.drop_owner(owner)
        return await self._erasures.erase(owner)

    async def get_or_compute(
        self,
        key: CacheKey,
        scope: Scope,
        compute: Compute,
        *,
        timeout_seconds: float,
        is_counted: bool = True,
    ) -> CacheResult:
        """The cached context if it is still valid, otherwise a computed one.

        timeout_seconds: of the computation; only requests with the same timeout share one in this
        process. is_counted: whether the request counts for the hit rate; events are emitted in any
        case. Raises what `compute` raises, and StoreUnavailable when PostgreSQL does not respond
        and nothing is cached.
        """
        result = await self._get_or_compute(key, scope, compute, timeout_seconds)
        if is_counted:
            is_miss = result.age_seconds is None
            self._counter.count(CacheCounts(misses=1) if is_miss else CacheCounts(hits=1))
        return result

    async def _get_or_compute(
        self, key: CacheKey, scope: Scope, compute: Compute, timeout_seconds: float
    ) -> CacheResult:
        lookup = await self._look_up(key, scope)
        if lookup.state is None:
            return await self._unchecked(lookup, key)
        entry, state = lookup.entry, lookup.state
        outdated = _outdated(entry, state) if entry is not None else None
        if entry is not None and outdated is None:
            return self._hit(entry, state.read_at)
        self._emit(CacheMiss(outdated or lookup.reason))
        is_in_doubt = lookup.reason == "unavailable"
        attempts = _CLAIM_ATTEMPTS_IN_DOUBT if is_in_doubt else _CLAIM_ATTEMPTS
        running = self._computations.get((key, timeout_seconds))
        computation = self._computation(key, scope, state, compute, timeout_seconds, attempts)
        # A caller may be cancelled; the computation continues for the others and for the cache.
        try:
            result = await within(asyncio.shield(computation.task), timeout_seconds + GRACE_SECONDS)
        except TimeoutError:
            raise UnavailableError(
                "The context was not ready in time", code="deadline_exceeded"
            ) from None
        if computation is running and not _is_of_version(result.context, computation.state):
            # It read blocks that were written after it began, and may be erased since.
            return await self._get_or_compute(key, scope, compute, timeout_seconds)
        return result

    async def close(self) -> None:
        """Cancel running computations. Idempotent."""
        tasks: list[asyncio.Task[Any]] = [
            *(computation.task for computation in self._computations.values()),
            *self._reads.values(),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._erasures.close()

    async def _look_up(self, key: CacheKey, scope: Scope) -> _Lookup:
        """Entry and state, read in parallel; starts the read of the state immediately."""
        state_read = asyncio.create_task(self._versions.state(scope))
        near = self._local.find(key)
        try:
            if near is None:
                entry, reason = await self._entry(key)
                return _Lookup(await self._in_time(state_read), entry, reason)
            state = await self._in_time(state_read)
            if state is None or _outdated(near, state) is None:
                return _Lookup(state, near, "absent")
            # Another process may have stored a newer one.
            self._local.drop(key)
            entry, reason = await self._entry(key)
        except BaseException:  # the caller was cancelled
            state_read.cancel()
            raise
        return _Lookup(state, entry or near, reason)

    async def _in_time(self, state_read: Awaitable[ScopeState]) -> ScopeState | None:
        seconds = STATE_SECONDS_AFTER_TIMEOUT if self._timed_out else STATE_SECONDS
        try:
            state = await within(state_read, seconds)
        except (StoreUnavailable, TimeoutError):
            self._timed_out = True
            return None
        self._timed_out = False
        return state

    async def _entry(self, key: CacheKey) -> tuple[Entry | None, MissReason]:
        """The entry, from a read that is running or a new one.

        A running one may miss an entry that was stored meanwhile; the computation looks again.
        """
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = asyncio.create_task(self._read_entry(key))
            read.add_done_callback(lambda _: self._reads.pop(key, None))
        return await asyncio.shield(read)

    async def _read_entry(self, key: CacheKey) -> tuple[Entry | None, MissReason]:
        try:
            value = await self._cache.fetch(key)
        except CacheUnavailable:
            return None, "unavailable"
        if value is None:
            return None, "absent"
        entry = decode_entry(value, key)
        if entry is not None:
            self._local.keep(key, entry)
        return entry, "unreadable"

    async def _unchecked(self, lookup: _Lookup, key: CacheKey) -> CacheResult:
        now = self._clock.now()
        if lookup.entry is None or lookup.entry.valid_until <= now:
            raise StoreUnavailable("PostgreSQL does not respond, and no context is cached")
        if await self._erasures.may_be_erased(key.owner):
            raise StoreUnavailable(
                "PostgreSQL does not respond, and the cached context may be erased"
            )
        return self._hit(lookup.entry, now, is_checked=False)

    def _hit(self, entry: Entry, now: datetime, *, is_checked: bool = True) -> CacheResult:
        age_seconds = max(0.0, (now - entry.computed_at).total_seconds())
        self._emit(CacheHit(age_seconds, is_checked))
        return CacheResult(entry.context, age_seconds, is_checked)

    def _computation(
        self,
        key: CacheKey,
        scope: Scope,
        state: ScopeState,
        compute: Compute,
        timeout_seconds: float,
        attempts: int,
    ) -> _Computation:
        """The computation whose result is valid for this state: a running one, or a new one."""
        name = (key, timeout_seconds)
        computation = self._computations.get(name)
        if (
            computation is not None
            and computation.state.version >= state.version
            and computation.valid_until > state.read_at
        ):
            return computation
        task = asyncio.create_task(
            self._compute(key, scope, state, compute, timeout_seconds, attempts)
        )
        computation = self._computations[name] = _Computation(state, _valid_until(state), task)
        task.add_done_callback(lambda _: self._on_done(name, computation))
        return computation

    def _on_done(self, name: Hashable, computation: _Computation) -> None:
        if self._computations.get(name) is computation:
            del self._computations[name]
        if not computation.task.cancelled():
            computation.task.exception()  # retrieved, even if no caller waits any longer

    async def _compute(
        self,
        key: CacheKey,
        scope: Scope,
        state: ScopeState,
        compute: Compute,
        wait_seconds: float,
        attempts: int,
    ) -> CacheResult:
        """Compute and cache, or return what another process cached meanwhile.

        wait_seconds: for another process. attempts: failures in a row after which the cache counts
        as unavailable.
        """
        token = uuid.uuid4().hex
        # A process that knows of a newer version, or of an expiry, does not wait for this result.
        until = round(_valid_until(state).timestamp() * 1000)
        claim = replace(key, digest=f"{key.digest}:{state.version}:{until}")
        found = await self._claim_or_find(claim, token, key, scope, state, wait_seconds, attempts)
        if isinstance(found, Entry):
            return self._hit(found, self._clock.now())
        renewing = asyncio.create_task(self._renew(claim, token)) if found == "claimed" else None
        try:
            computed = await compute()
            if _may_be_kept(computed, state):
                if found == "unavailable":  # do not call a cache again that has just failed
                    self._local.keep(key, self._entry_of(state, computed))
                else:
                    await self._keep(key, state, computed)
        finally:
            if renewing is not None:
                renewing.cancel()
                await self._release(claim, token)
        return CacheResult(computed.context, None)

    async def _renew(self, claim: CacheKey, token: str) -> None:
        """Hold a claim for as long as the computation takes, which has a deadline of its own."""
        while True:
            await asyncio.sleep(CLAIM_SECONDS / _RENEWALS)
            try:
                await self._cache.renew(claim, token=token, seconds=CLAIM_SECONDS)
            except CacheUnavailable:
                continue  # the claim may outlast it

    async def _claim_or_find(
        self,
        claim: CacheKey,
        token: str,
        key: CacheKey,
        scope: Scope,
        state: ScopeState,
        wait_seconds: float,
        attempts: int,
    ) -> Entry | Literal["claimed", "alone", "unavailable"]:
        """The claim, or the entry of the process that had it.

        "alone" if neither came in time, "unavailable" if the cache does not respond.
        """
        deadline = self._clock.monotonic() + max(wait_seconds, CLAIM_SECONDS)
        failures = 0
        is_doubtful = False  # whether the claim may be this caller's: only the reply was late
        while True:
            try:
                is_claimed = await self._cache.claim(claim, token=token, seconds=CLAIM_SECONDS)
                entry = await self._valid_entry(key, scope, state)
            except StoreUnavailable:
                return "alone"
            except CacheUnavailable:
                failures += 1
                if failures >= attempts:
                    return "unavailable"
                is_doubtful = True
                await asyncio.sleep(jittered(_POLL_SECONDS))
                continue
            failures, attempts = 0, _CLAIM_ATTEMPTS
            if entry is not None:
                if is_claimed:
                    await self._release(claim, token)
                return entry
            if is_claimed:
                return "claimed"
            if is_doubtful:
                is_doubtful = False
                await self._release(claim, token)
            if self._clock.monotonic() >= deadline:
                return "alone"
            await asyncio.sleep(jittered(_POLL_SECONDS))

    async def _valid_entry(self, key: CacheKey, scope: Scope, state: ScopeState) -> Entry | None:
        """The current entry, if it is valid for this state or a later one."""
        value = await self._cache.fetch(key)
        entry = decode_entry(value, key) if value is not None else None
        if entry is not None and entry.version > state.version:
            state = await self._versions.state(scope)
        if entry is None or _outdated(entry, state) is not None:
            return None
        return entry

    def _entry_of(self, state: ScopeState, computed: Computed) -> Entry:
        expiries = [state.read_at + self._ttl]
        if state.next_expiry_at is not None:
            expiries.append(state.next_expiry_at)
        if computed.names_times:
            expiries.append(tick_of(state.read_at) + TICK)
        return Entry(computed.context, state.version, state.read_at, min(expiries))

    async def _keep(self, key: CacheKey, state: ScopeState, computed: Computed) -> None:
        entry = self._entry_of(state, computed)
        left = (entry.valid_until - state.read_at).total_seconds()
        self._local.keep(key, entry)
        try:
            await self._cache.store(key, encode_entry(entry, key), ttl_seconds=left)
        except CacheUnavailable:
            return  # costs only the next computation

    async def _release(self, claim: CacheKey, token: str) -> None:
        try:
            await self._cache.let_go(claim, token=token)
        except CacheUnavailable:
            return  # the claim expires


def tick_of(now: datetime) -> datetime:
    """The start of the tick of `now`."""
    return datetime.fromtimestamp(
        now.timestamp() // TICK.total_seconds() * TICK.total_seconds(), UTC
    )


def _valid_until(state: ScopeState) -> datetime:
    """Of a computation whose query is not parsed yet: it may name a time."""
    tick_end = tick_of(state.read_at) + TICK
    return tick_end if state.next_expiry_at is None else min(tick_end, state.next_expiry_at)


def _may_be_kept(computed: Computed, state: ScopeState) -> bool:
    """Whether a context may be cached under the version from before it was computed.

    Version 0 is that of a user without a row, before the first block and again after each erasure:
    a context with blocks, written meanwhile, would be returned after the next erasure.
    """
    return computed.is_complete and _is_of_version(computed.context, state)


def _is_of_version(context: Context, state: ScopeState) -> bool:
    """Whether a context can be one of the scope as it was at that version: 0 has no blocks."""
    return state.version > 0 or not context.blocks


def _outdated(entry: Entry, state: ScopeState) -> Literal["changed", "expired"] | None:
    """Why an entry is not valid for a state; None if it is."""
    if entry.version != state.version:
        return "changed"
    return "expired" if entry.valid_until <= state.read_at else None
