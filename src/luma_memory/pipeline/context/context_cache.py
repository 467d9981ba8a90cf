"""Answers that are kept, and never served when anything changed since.

An entry holds the answer and the scope's version as it was before the answer was computed. Each
request reads the entry and the present version side by side, and the entry is served only if the
two versions are equal. There is no message that says "changed", so none can be lost.

- A write that commits before the request has raised the version the request reads: no stale answer.
- A write that commits while an answer is computed raises it beyond the one the entry will carry:
  the entry is never served. The version is read first, the blocks afterwards.
- Versions never come twice (see `memory_next_version`), so equality means: nothing happened.
- Time changes answers without a write: a block expires, "last week" becomes another one. An entry
  ends when the next block of the scope expires, and with its tick (see TICK).

With the cache elsewhere, a process keeps what it saw itself as well, and serves it by the same
rule: then only the version is read, and a cache that is away is not missed.

One request computes, those that ask the same meanwhile wait for it: in this process for its task,
in others for its entry, as long as its claim in the cache stands. A holder that dies costs them the
rest of the claim; a cache that is away costs them nothing, each process then computes for itself.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

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
Compute = Callable[[], Awaitable[tuple[Context, bool]]]

# PostgreSQL answers this in a millisecond; whoever waits longer gets the entry unchecked, or learns
# that there is nothing.
STATE_SECONDS: Final = 1.0
# After one that took too long the next ones wait less, until one is answered.
STATE_SECONDS_IN_DOUBT: Final = 0.25
# "Now" stands still for so long: whoever asks within one tick is asked by the same clock, and gets
# the same answer whether it was kept or not.
TICK: Final = timedelta(minutes=15)
# How long a claim stands when its holder does not come back; others wait no longer.
CLAIM_SECONDS: Final = 2.0
# Whoever computes has a deadline of his own; this is for those whose computing does not keep it.
GRACE_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and where it came from."""

    context: Context
    age_seconds: float | None  # None: computed for this request
    is_checked: bool = True  # False: PostgreSQL did not answer


@dataclass(frozen=True, slots=True)
class _Looked:
    """What one look found."""

    state: ScopeState | None  # None: PostgreSQL did not answer
    entry: Entry | None
    reason: MissReason  # why there is no entry, or none in the cache behind the near one


@dataclass(frozen=True, slots=True)
class _Flight:
    """A computation under way, and what it will be true of."""

    state: ScopeState
    valid_until: datetime
    task: asyncio.Task[Answer]


class ContextCache:
    """Keeps contexts in a cache, checked against the scope's version at every use.

    local_bytes_max: of entries kept in this process, in front of a cache that is elsewhere; 0 where
    the cache is in this process itself.
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
        self._in_doubt = False
        self._flights: dict[Hashable, _Flight] = {}

    async def forget(self, scope: Scope) -> int:
        """Drop all entries of an erased scope; how many. A cache that is away does it later."""
        owner = context_owner(scope)
        self._local.drop_owner(owner)
        return await self._erasures.erase(owner)

    async def answer(
        self,
        key: CacheKey,
        scope: Scope,
        compute: Compute,
        *,
        timeout_seconds: float,
        is_counted: bool = True,
    ) -> Answer:
        """The kept answer if it is still true, else a computed one.

        compute: the answer, and whether it is whole; one that is not is given to those who wait
        for it and not kept. timeout_seconds: what the computing was given; only requests with the
        same share a computation in this process. is_counted: whether it is a part of the hit rate;
        events are emitted all the same. Raises what `compute` raises, and
        StoreUnavailable when PostgreSQL does not answer and nothing is kept.
        """
        answer = await self._answer(key, scope, compute, timeout_seconds)
        if is_counted:
            made = answer.age_seconds is None
            self._counter.count(CacheCounts(misses=1) if made else CacheCounts(hits=1))
        return answer

    async def _answer(
        self, key: CacheKey, scope: Scope, compute: Compute, timeout_seconds: float
    ) -> Answer:
        looked = await self._look(key, scope)
        if looked.state is None:
            return await self._unchecked(looked, key)
        entry, state = looked.entry, looked.state
        outdated = _outdated(entry, state) if entry is not None else None
        if entry is not None and outdated is None:
            return self._hit(entry, state.read_at)
        self._emit(CacheMiss(outdated or looked.reason))
        # A cache that just did not answer is not asked again.
        is_shared = looked.reason != "unavailable"
        flight = self._flight(key, scope, state, compute, timeout_seconds, is_shared)
        # Whoever waits may go; the computing goes on for the others and for the cache.
        try:
            return await within(asyncio.shield(flight.task), timeout_seconds + GRACE_SECONDS)
        except TimeoutError:
            raise UnavailableError(
                "The context was not ready in time", code="deadline_exceeded"
            ) from None

    async def close(self) -> None:
        """End what is being computed. Repeating it is harmless."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._erasures.close()

    async def _look(self, key: CacheKey, scope: Scope) -> _Looked:
        """Entry and state, read side by side; the state's reading begins now."""
        state_read = asyncio.create_task(self._versions.state(scope))
        near = self._local.find(key)
        try:
            if near is None:
                entry, reason = await self._entry(key)
                return _Looked(await self._in_time(state_read), entry, reason)
            state = await self._in_time(state_read)
            if state is None or _outdated(near, state) is None:
                return _Looked(state, near, "absent")
            # Another process may have kept a later one.
            self._local.drop(key)
            entry, reason = await self._entry(key)
        except BaseException:  # the asker is gone
            state_read.cancel()
            raise
        return _Looked(state, entry or near, reason)

    async def _in_time(self, state_read: Awaitable[ScopeState]) -> ScopeState | None:
        seconds = STATE_SECONDS_IN_DOUBT if self._in_doubt else STATE_SECONDS
        try:
            state = await within(state_read, seconds)
        except (StoreUnavailable, TimeoutError):
            self._in_doubt = True
            return None
        self._in_doubt = False
        return state

    async def _entry(self, key: CacheKey) -> tuple[Entry | None, MissReason]:
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

    async def _unchecked(self, looked: _Looked, key: CacheKey) -> Answer:
        now = self._clock.now()
        if looked.entry is None or looked.entry.valid_until <= now:
            raise StoreUnavailable("PostgreSQL does not answer, and no answer is kept")
        if await self._erasures.may_be_erased(key.owner):
            raise StoreUnavailable("PostgreSQL does not answer, and the kept answer may be erased")
        return self._hit(looked.entry, now, is_checked=False)

    def _hit(self, entry: Entry, now: datetime, *, is_checked: bool = True) -> Answer:
        age_seconds = max(0.0, (now - entry.computed_at).total_seconds())
        self._emit(CacheHit(age_seconds, is_checked))
        return Answer(entry.context, age_seconds, is_checked)

    def _flight(
        self,
        key: CacheKey,
        scope: Scope,
        state: ScopeState,
        compute: Compute,
        timeout_seconds: float,
        is_shared: bool,
    ) -> _Flight:
        """The flight whose answer is true at this state: one under way, or a new one."""
        name = (key, timeout_seconds)
        flight = self._flights.get(name)
        if (
            flight is not None
            and flight.state.version >= state.version
            and flight.valid_until > state.read_at
        ):
            return flight
        task = asyncio.create_task(self._fly(key, scope, state, compute, is_shared))
        flight = self._flights[name] = _Flight(state, _valid_until(state), task)
        task.add_done_callback(lambda _: self._landed(name, flight))
        return flight

    def _landed(self, name: Hashable, flight: _Flight) -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]
        if not flight.task.cancelled():
            flight.task.exception()  # all who waited for it may be gone

    async def _fly(
        self, key: CacheKey, scope: Scope, state: ScopeState, compute: Compute, is_shared: bool
    ) -> Answer:
        """Compute and keep, or take what another process kept meanwhile."""
        if not is_shared:
            context, is_whole = await compute()
            if is_whole:
                self._local.keep(key, _entry(state, context))
            return Answer(context, None)
        token = uuid.uuid4().hex
        # With the version: who knows of a later change does not wait for an answer from before it.
        claim = replace(key, digest=f"{key.digest}:{state.version}")
        found = await self._claim_or_find(claim, token, key, scope, state)
        if isinstance(found, Entry):
            return self._elsewhere(found)
        try:
            context, is_whole = await compute()
            if is_whole:
                await self._keep(key, state, context)
        finally:
            if found == "claimed":
                await self._let_go(claim, token)
        return Answer(context, None)

    async def _claim_or_find(
        self, claim: CacheKey, token: str, key: CacheKey, scope: Scope, state: ScopeState
    ) -> Entry | Literal["claimed", "alone"]:
        """The claim, or the entry of whoever held it; "alone" when neither is to be had."""
        give_up_at = self._clock.monotonic() + CLAIM_SECONDS
        while True:
            try:
                is_claimed = await self._cache.claim(claim, token=token, seconds=CLAIM_SECONDS)
                entry = await self._true_entry(key, scope, state)
            except (CacheUnavailable, StoreUnavailable):
                return "alone"
            if entry is not None:
                if is_claimed:
                    await self._let_go(claim, token)
                return entry
            if is_claimed:
                return "claimed"
            if self._clock.monotonic() >= give_up_at:
                return "alone"
            await asyncio.sleep(jittered(_POLL_SECONDS))

    async def _true_entry(self, key: CacheKey, scope: Scope, state: ScopeState) -> Entry | None:
        """The entry as it is now, if it is true of this state or of a later one."""
        value = await self._cache.fetch(key)
        entry = decode_entry(value, key) if value is not None else None
        if entry is not None and entry.version > state.version:
            state = await self._versions.state(scope)
        if entry is None or _outdated(entry, state) is not None:
            return None
        return entry

    def _elsewhere(self, entry: Entry) -> Answer:
        age_seconds = max(0.0, (self._clock.now() - entry.computed_at).total_seconds())
        self._emit(CacheHit(age_seconds, is_checked=True))
        return Answer(entry.context, age_seconds)

    async def _keep(self, key: CacheKey, state: ScopeState, context: Context) -> None:
        entry = _entry(state, context)
        left = (entry.valid_until - state.read_at).total_seconds()
        # Entries of one busy moment do not end in one moment.
        ttl = jittered(self._ttl.total_seconds(), low=0.9, high=1.0)
        self._local.keep(key, entry)
        try:
            await self._cache.store(key, encode_entry(entry, key), ttl_seconds=min(ttl, left))
        except CacheUnavailable:
            return  # nobody lost anything but time

    async def _let_go(self, claim: CacheKey, token: str) -> None:
        try:
            await self._cache.let_go(claim, token=token)
        except CacheUnavailable:
            return  # it ends by itself


def tick_of(now: datetime) -> datetime:
    """The moment at which the tick of `now` began."""
    return datetime.fromtimestamp(
        now.timestamp() // TICK.total_seconds() * TICK.total_seconds(), UTC
    )


def _valid_until(state: ScopeState) -> datetime:
    tick_end = tick_of(state.read_at) + TICK
    return tick_end if state.next_expiry_at is None else min(tick_end, state.next_expiry_at)


def _entry(state: ScopeState, context: Context) -> Entry:
    return Entry(context, state.version, state.read_at, _valid_until(state))


def _outdated(entry: Entry, state: ScopeState) -> Literal["changed", "expired"] | None:
    """Why an entry is not true of a state; None when it is."""
    if entry.version != state.version:
        return "changed"
    return "expired" if entry.valid_until <= state.read_at else None
