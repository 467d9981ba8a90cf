"""When an entry is served, who computes, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import uuid4

import pytest

from luma_memory.cache.in_process import InProcessCache
from luma_memory.domain.cache import CacheCounts, CacheKey, context_key
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.context import Context, ContextBlock
from luma_memory.domain.errors import (
    CacheUnavailable,
    ProviderUnavailable,
    StoreUnavailable,
    UnavailableError,
)
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.context import context_cache
from luma_memory.pipeline.context.context_cache import (
    TICK,
    CacheResult,
    Computed,
    ContextCache,
    tick_of,
)
from luma_memory.pipeline.context.context_entry import Entry
from luma_memory.pipeline.context.hit_counter import HitCounter
from luma_memory.pipeline.context.local_entries import LocalEntries
from luma_memory.ports.search import ScopeState
from luma_memory.telemetry.events import CacheHit, CacheMiss, CacheUsed
from luma_memory.testing.event_log import EventLog

ADA = Scope("default", "ada")
ResultT = TypeVar("ResultT")
KEY = context_key(ADA, ["Where?"])
NOON = datetime(2026, 3, 2, 12, 0, 1, tzinfo=UTC)


@dataclass
class Versions:
    """`ports.search.ScopeVersions` whose results a test sets."""

    version: int = 7
    now: datetime = NOON
    next_expiry_at: datetime | None = None
    error: Exception | None = None
    hangs: bool = False

    async def state(self, scope: Scope) -> ScopeState:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return ScopeState(self.version, self.now, self.next_expiry_at)


@dataclass
class Ledger:
    """`ports.cache.CacheLedger` in memory."""

    total: CacheCounts = field(default_factory=CacheCounts)
    error: Exception | None = None

    async def add(self, counts: Mapping[datetime, CacheCounts]) -> None:
        if self.error is not None:
            raise self.error
        for counted in counts.values():
            self.total += counted

    async def since(self, hour: datetime) -> CacheCounts:
        return self.total


class Computing:
    """The computation behind the cache: waits for `may_compute`, counts its calls."""

    def __init__(self) -> None:
        self.count = 0
        self.may_compute = asyncio.Event()
        self.may_compute.set()
        self.is_complete = True
        self.names_times = False
        self.blocks: list[ContextBlock] = []
        self.error: Exception | None = None

    async def __call__(self) -> Computed:
        self.count += 1
        number = self.count
        await self.may_compute.wait()
        if self.error is not None:
            raise self.error
        context = _context(f"answer {number}", self.blocks)
        return Computed(context, self.is_complete, self.names_times)


def _context(text: str, blocks: Sequence[ContextBlock] = ()) -> Context:
    return Context(list(blocks), text, [], 3, None, True, [])


def _context_block() -> ContextBlock:
    facts = (None, None, None, None)
    return ContextBlock(uuid4(), "The harbour froze.", False, 0.9, 0.9, NOON, *facts)


class Setting:
    """A ContextCache and everything around it."""

    def __init__(
        self,
        cache: InProcessCache | None = None,
        *,
        local_bytes_max: int = 0,
        ttl: timedelta = timedelta(hours=1),
    ) -> None:
        self.clock = SystemClock()
        self.cache = cache or InProcessCache(size_bytes_max=1 << 20, clock=self.clock)
        self.versions = Versions()
        self.computing = Computing()
        self.events = EventLog()
        self.ledger = Ledger()
        self.counter = HitCounter(self.ledger, clock=self.clock, emit=self.events)
        self.contexts = ContextCache(
            self.cache,
            self.versions,
            ttl=ttl,
            counter=self.counter,
            clock=self.clock,
            emit=self.events,
            local_bytes_max=local_bytes_max,
        )

    async def ask(self, key: CacheKey = KEY, *, timeout_seconds: float = 10.0) -> CacheResult:
        return await self.contexts.get_or_compute(
            key, ADA, self.computing, timeout_seconds=timeout_seconds
        )

    async def until_computing(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.computing.count < count:  # noqa: ASYNC110 - a counter
                await asyncio.sleep(0)

    def misses(self) -> list[str]:
        return [event.reason for event in self.events.of(CacheMiss)]


async def test_a_probe_is_served_normally_and_not_counted() -> None:
    setting = Setting()
    for _ in range(3):  # a miss and two hits
        await setting.contexts.get_or_compute(
            KEY, ADA, setting.computing, timeout_seconds=10.0, is_counted=False
        )
    assert setting.computing.count == 1
    assert len(setting.events.of(CacheHit)) == 2
    assert await setting.counter.last_day() == CacheCounts()
    await setting.counter.close()


async def test_a_context_is_computed_once_and_then_served_with_its_age() -> None:
    setting = Setting()
    first = await setting.ask()
    setting.versions.now += timedelta(seconds=90)
    second = await setting.ask()
    assert (first.age_seconds, second.age_seconds) == (None, 90.0)
    assert first.context == second.context
    assert setting.computing.count == 1
    assert setting.misses() == ["absent"]
    assert setting.events.of(CacheMiss)[0].message() == "Cache miss (absent)"
    assert [event.message() for event in setting.events.of(CacheHit)] == ["Cache hit"]
    assert await setting.counter.last_day() == CacheCounts(hits=1, misses=1)
    await setting.counter.close()


@pytest.mark.parametrize("version", [6, 8, 0])
async def test_another_version_is_never_served_be_it_later_or_earlier(version: int) -> None:
    setting = Setting()
    await setting.ask()
    setting.versions.version = version  # earlier: the database was restored from a backup
    assert (await setting.ask()).context.text == "answer 2"
    assert setting.misses() == ["absent", "changed"]


async def test_an_entry_ends_when_the_next_block_expires() -> None:
    setting = Setting()
    setting.versions.next_expiry_at = NOON + timedelta(seconds=30)
    await setting.ask()
    setting.versions.now = NOON + timedelta(seconds=29.999)
    assert (await setting.ask()).age_seconds is not None
    setting.versions.now = NOON + timedelta(seconds=30)
    setting.versions.next_expiry_at = None
    assert (await setting.ask()).context.text == "answer 2"
    assert setting.misses() == ["absent", "expired"]


async def test_an_entry_of_a_question_that_names_a_time_ends_with_its_tick() -> None:
    setting = Setting()
    setting.computing.names_times = True
    await setting.ask()
    setting.versions.now = tick_of(NOON) + TICK - timedelta(milliseconds=1)
    assert (await setting.ask()).age_seconds is not None
    setting.versions.now = tick_of(NOON) + TICK
    assert (await setting.ask()).context.text == "answer 2"


@pytest.mark.parametrize("local_bytes_max", [0, 1 << 20])
@pytest.mark.parametrize("ttl", [timedelta(seconds=2), timedelta(hours=1), timedelta(days=3)])
async def test_an_entry_and_its_copies_live_for_the_configured_time(
    ttl: timedelta, local_bytes_max: int
) -> None:
    setting = Setting(local_bytes_max=local_bytes_max, ttl=ttl)
    await setting.ask()
    setting.versions.now = NOON + ttl - timedelta(milliseconds=1)
    assert (await setting.ask()).age_seconds is not None
    setting.versions.now = NOON + ttl
    assert (await setting.ask()).context.text == "answer 2"
    assert setting.misses()[-1] in ("absent", "expired")


@pytest.mark.parametrize("value", [b"", b"nonsense", b"\x80\x04K\x01.", b"x\x9c\x03\x00"])
async def test_a_value_that_does_not_parse_is_a_miss_and_is_replaced(value: bytes) -> None:
    setting = Setting()
    await setting.cache.store(KEY, value, ttl_seconds=60)
    assert (await setting.ask()).context.text == "answer 1"
    assert setting.misses() == ["unreadable"]
    assert (await setting.ask()).age_seconds is not None


async def test_an_entry_copied_to_another_name_is_no_entry() -> None:
    setting = Setting()
    await setting.ask()
    value = await setting.cache.fetch(KEY)
    assert value is not None
    other = context_key(Scope("default", "eve"), ["Where?"])
    await setting.cache.store(other, value, ttl_seconds=60)
    assert (await setting.ask(other)).context.text == "answer 2"


async def test_askers_of_one_question_share_a_computation() -> None:
    setting = Setting()
    setting.computing.may_compute.clear()
    asking = [asyncio.create_task(setting.ask()) for _ in range(300)]
    await setting.until_computing(1)
    setting.computing.may_compute.set()
    results = await asyncio.gather(*asking)
    assert {result.context.text for result in results} == {"answer 1"}
    assert setting.computing.count == 1
    assert await setting.counter.last_day() == CacheCounts(misses=300)
    await setting.counter.close()


async def test_a_call_that_knows_of_a_change_does_not_join_a_computation_from_before_it() -> None:
    setting = Setting()
    setting.computing.may_compute.clear()
    early = asyncio.create_task(setting.ask())
    await setting.until_computing(1)
    setting.versions.version += 1
    late = asyncio.create_task(setting.ask())
    await setting.until_computing(2)
    setting.computing.may_compute.set()
    assert (await early).context.text == "answer 1"
    assert (await late).context.text == "answer 2"
    assert (await setting.ask()).context.text == "answer 2"


async def test_a_call_after_an_expiry_does_not_join_a_computation_from_before_it() -> None:
    setting = Setting()
    setting.versions.next_expiry_at = NOON + timedelta(seconds=1)
    setting.computing.may_compute.clear()
    early = asyncio.create_task(setting.ask())
    await setting.until_computing(1)
    setting.versions.now, setting.versions.next_expiry_at = NOON + timedelta(seconds=1), None
    late = asyncio.create_task(setting.ask())
    await setting.until_computing(2)
    setting.computing.may_compute.set()
    assert ((await early).context.text, (await late).context.text) == ("answer 1", "answer 2")


async def test_an_asker_who_leaves_takes_nothing_from_the_others() -> None:
    setting = Setting()
    setting.computing.may_compute.clear()
    first, second = (asyncio.create_task(setting.ask()) for _ in range(2))
    await setting.until_computing(1)
    first.cancel()
    setting.computing.may_compute.set()
    assert (await second).context.text == "answer 1"
    assert (await setting.ask()).age_seconds is not None


async def test_a_result_is_cached_after_all_its_callers_left() -> None:
    setting = Setting()
    setting.computing.may_compute.clear()
    only = asyncio.create_task(setting.ask())
    await setting.until_computing(1)
    only.cancel()
    setting.computing.may_compute.set()
    async with asyncio.timeout(5):
        while await setting.cache.fetch(KEY) is None:  # noqa: ASYNC110 - the computing's own task
            await asyncio.sleep(0)
    assert (await setting.ask()).age_seconds is not None


async def test_an_incomplete_context_is_returned_and_not_cached() -> None:
    setting = Setting()
    setting.computing.is_complete = False
    assert (await setting.ask()).context.text == "answer 1"
    setting.computing.is_complete = True
    assert (await setting.ask()).context.text == "answer 2"
    assert (await setting.ask()).context.text == "answer 2"


@pytest.mark.parametrize("local_bytes_max", [0, 1 << 20])
async def test_a_context_with_blocks_is_not_kept_for_a_user_who_had_none(
    local_bytes_max: int,
) -> None:
    """A write that commits during the computation: its version is 0 again after an erasure."""
    setting = Setting(local_bytes_max=local_bytes_max)
    setting.versions.version = 0
    setting.computing.blocks = [_context_block()]
    await setting.ask()
    assert (await setting.ask()).context.text == "answer 2"
    setting.computing.blocks = []
    assert (await setting.ask()).context.text == "answer 3"
    assert (await setting.ask()).context.text == "answer 3"


async def test_a_running_computation_is_not_shared_over_an_erasure() -> None:
    """It begins before the first block, reads it, and ends after the user is erased."""
    setting = Setting()
    setting.versions.version = 0
    setting.computing.blocks = [_context_block()]
    setting.computing.may_compute.clear()
    first = asyncio.create_task(setting.ask())
    while setting.computing.count == 0:  # noqa: ASYNC110 - the computing's own task
        await asyncio.sleep(0)
    later = asyncio.create_task(setting.ask())
    for _ in range(50):  # until it waits for the same computation
        await asyncio.sleep(0)
    setting.computing.may_compute.set()
    first.add_done_callback(lambda _: setting.computing.blocks.clear())
    assert (await first).context.text == "answer 1"
    assert (await later).context.text == "answer 2"
    assert (await later).context.blocks == []


async def test_an_error_reaches_every_waiter_and_is_not_cached() -> None:
    setting = Setting()
    setting.computing.error = ProviderUnavailable("away")
    results = await asyncio.gather(setting.ask(), setting.ask(), return_exceptions=True)
    assert [type(error) for error in results] == [ProviderUnavailable] * 2
    setting.computing.error = None
    assert (await setting.ask()).context.text == f"answer {setting.computing.count}"


async def test_a_probe_that_times_out_is_reported_as_such() -> None:
    setting = Setting()
    setting.computing.may_compute.clear()
    started = asyncio.get_running_loop().time()
    with pytest.raises(UnavailableError) as caught:
        await setting.ask(timeout_seconds=0.05)
    assert caught.value.code == "deadline_exceeded"
    assert asyncio.get_running_loop().time() - started < 2
    await setting.contexts.close()


async def test_without_the_database_a_cached_context_is_served_unchecked() -> None:
    setting = Setting()
    setting.versions.now = datetime.now(UTC)
    await setting.ask()
    setting.versions.error = StoreUnavailable("away")
    result = await setting.ask()
    assert (result.context.text, result.is_checked) == ("answer 1", False)
    assert result.age_seconds is not None
    with pytest.raises(StoreUnavailable):
        await setting.ask(context_key(ADA, ["Another question"]))
    assert setting.computing.count == 1


async def test_without_the_database_nothing_expired_is_served() -> None:
    setting = Setting()
    setting.versions.now = datetime.now(UTC)
    setting.versions.next_expiry_at = setting.versions.now + timedelta(milliseconds=1)
    await setting.ask()
    setting.versions.error = StoreUnavailable("away")
    await asyncio.sleep(0.002)
    with pytest.raises(StoreUnavailable):
        await setting.ask()


async def test_a_hanging_database_is_waited_for_once_and_then_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(context_cache, "STATE_SECONDS", 0.3)
    monkeypatch.setattr(context_cache, "STATE_SECONDS_AFTER_TIMEOUT", 0.01)
    setting = Setting()
    setting.versions.now = datetime.now(UTC)
    await setting.ask()
    setting.versions.hangs = True
    loop = asyncio.get_running_loop()
    taken = []
    for _ in range(3):
        started = loop.time()
        assert not (await setting.ask()).is_checked
        taken.append(loop.time() - started)
    assert taken[0] >= 0.3 > max(taken[1:])
    setting.versions.hangs = False
    assert (await setting.ask()).is_checked


class AwayCache(InProcessCache):
    """Away from a given call on."""

    def __init__(self, *, calls_left: int) -> None:
        super().__init__(size_bytes_max=1 << 20, clock=SystemClock())
        self.calls_left = calls_left
        self.calls = 0

    async def fetch(self, key: CacheKey) -> bytes | None:
        self._count()
        return await super().fetch(key)

    async def store(self, key: CacheKey, value: bytes, *, ttl_seconds: float) -> None:
        self._count()
        await super().store(key, value, ttl_seconds=ttl_seconds)

    async def claim(self, key: CacheKey, *, token: str, seconds: float) -> bool:
        self._count()
        return await super().claim(key, token=token, seconds=seconds)

    async def renew(self, key: CacheKey, *, token: str, seconds: float) -> None:
        self._count()
        await super().renew(key, token=token, seconds=seconds)

    async def let_go(self, key: CacheKey, *, token: str) -> None:
        self._count()
        await super().let_go(key, token=token)

    def _count(self) -> None:
        self.calls += 1
        if self.calls > self.calls_left:
            raise CacheUnavailable("away")


@pytest.mark.parametrize("calls_left", range(6))
async def test_a_cache_lost_at_any_step_never_fails_the_request(calls_left: int) -> None:
    setting = Setting(AwayCache(calls_left=calls_left))
    assert (await setting.ask()).context.text == "answer 1"


async def test_an_unresponsive_cache_is_called_three_times_per_computation() -> None:
    """A read and two claims; another read or claim of the same moment shares them."""
    cache = AwayCache(calls_left=0)
    setting = Setting(cache)
    await asyncio.gather(*(setting.ask() for _ in range(100)))
    assert cache.calls == 3
    assert set(setting.misses()) == {"unavailable"}


class LateCache(InProcessCache):
    """Carries out the commands of these numbers, but its reply comes too late."""

    def __init__(self, *late: int) -> None:
        super().__init__(size_bytes_max=1 << 20, clock=SystemClock())
        self.late = late
        self.calls = 0

    async def fetch(self, key: CacheKey) -> bytes | None:
        return self._replied(await super().fetch(key))

    async def claim(self, key: CacheKey, *, token: str, seconds: float) -> bool:
        return self._replied(await super().claim(key, token=token, seconds=seconds))

    async def let_go(self, key: CacheKey, *, token: str) -> None:
        await super().let_go(key, token=token)
        self._replied(None)

    def _replied(self, reply: ResultT) -> ResultT:
        self.calls += 1
        if self.calls in self.late:
            raise CacheUnavailable("late")
        return reply


@pytest.mark.parametrize(
    "late",
    # Of two processes: 1 and 2 read, 3 and 4 claim, the others look for the entry or claim again.
    [(3,), (4,), (5,), (6,), (3, 4), (3, 5), (1, 2), (1,), (2,), (7,), (8,), (1, 3), (3, 4, 5)],
)
async def test_a_late_reply_of_the_cache_does_not_double_a_computation(
    late: tuple[int, ...],
) -> None:
    """The stampede: hundreds of requests at once make one command miss its deadline."""
    shared = LateCache(*late)
    here, there = Setting(shared), Setting(shared)
    for setting in (here, there):
        setting.computing.may_compute.clear()
    asking = [asyncio.create_task(setting.ask()) for setting in (here, there) * 50]
    async with asyncio.timeout(10):
        while here.computing.count + there.computing.count == 0:  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0.01)
    here.computing.may_compute.set()
    there.computing.may_compute.set()
    results = await asyncio.gather(*asking)
    assert len({result.context.text for result in results}) == 1
    assert here.computing.count + there.computing.count == 1


async def test_requests_of_one_moment_share_a_read() -> None:
    cache = LateCache()
    setting = Setting(cache)
    setting.computing.may_compute.clear()
    asking = [asyncio.create_task(setting.ask()) for _ in range(150)]
    await setting.until_computing(1)
    assert cache.calls == 3  # a read; a claim, and another read under it
    setting.computing.may_compute.set()
    await asyncio.gather(*asking)


async def test_processes_share_a_computation_and_wait_for_its_entry() -> None:
    shared = InProcessCache(size_bytes_max=1 << 20, clock=SystemClock())
    here, there = Setting(shared), Setting(shared)
    here.computing.may_compute.clear()
    first = asyncio.create_task(here.ask())
    await here.until_computing(1)
    second = asyncio.create_task(there.ask())
    await asyncio.sleep(0.05)
    here.computing.may_compute.set()
    results = await asyncio.gather(first, second)
    assert {result.context.text for result in results} == {"answer 1"}
    assert (here.computing.count, there.computing.count) == (1, 0)
    assert await there.counter.last_day() == CacheCounts(hits=1)
    await there.counter.close()


async def test_a_computation_longer_than_a_claim_is_shared_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(context_cache, "CLAIM_SECONDS", 0.1)
    shared = InProcessCache(size_bytes_max=1 << 20, clock=SystemClock())
    here, there = Setting(shared), Setting(shared)
    here.computing.may_compute.clear()
    first = asyncio.create_task(here.ask())
    await here.until_computing(1)
    second = asyncio.create_task(there.ask())
    await asyncio.sleep(0.5)  # five claims
    assert there.computing.count == 0
    here.computing.may_compute.set()
    results = await asyncio.gather(first, second)
    assert {result.context.text for result in results} == {"answer 1"}
    assert (here.computing.count, there.computing.count) == (1, 0)


async def test_a_holder_that_dies_costs_the_rest_of_its_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def dead(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(context_cache, "CLAIM_SECONDS", 0.2)
    shared = InProcessCache(size_bytes_max=1 << 20, clock=SystemClock())
    dying, living = Setting(shared), Setting(shared)
    monkeypatch.setattr(dying.contexts, "_renew", dead)
    dying.computing.may_compute.clear()
    first = asyncio.create_task(dying.ask())
    await dying.until_computing(1)
    started = asyncio.get_running_loop().time()
    assert (await living.ask()).context.text == "answer 1"
    assert living.computing.count == 1
    assert asyncio.get_running_loop().time() - started < 2
    dying.computing.may_compute.set()
    await first


async def test_a_later_entry_is_taken_by_who_waited_with_an_earlier_version() -> None:
    shared = InProcessCache(size_bytes_max=1 << 20, clock=SystemClock())
    here, there = Setting(shared), Setting(shared)
    here.computing.may_compute.clear()
    holder = asyncio.create_task(here.ask())
    await here.until_computing(1)
    waiting = asyncio.create_task(there.ask())
    await asyncio.sleep(0.03)
    # A write comes, and a third process computes what is true after it.
    third = Setting(shared)
    for setting in (here, there, third):
        setting.versions.version += 1
    third.computing.count = 40
    await third.ask()
    assert (await waiting).context.text == "answer 41"
    assert there.computing.count == 0
    here.computing.may_compute.set()
    await holder


async def test_what_a_process_saw_is_served_without_the_cache_by_the_same_rule() -> None:
    cache = AwayCache(calls_left=1_000)
    setting = Setting(cache, local_bytes_max=1 << 20)
    await setting.ask()
    calls, cache.calls_left = cache.calls, 0
    assert (await setting.ask()).age_seconds is not None
    assert cache.calls == calls
    setting.versions.version += 1
    assert (await setting.ask()).context.text == "answer 2"
    assert cache.calls == calls + 3  # a read and two claims: the cache was unavailable
    assert setting.misses() == ["absent", "changed"]
    # Kept here, though the cache is away.
    assert (await setting.ask()).context.text == "answer 2"
    setting.versions.next_expiry_at = NOON
    setting.versions.now = NOON + timedelta(hours=1)
    assert (await setting.ask()).context.text == "answer 3"
    assert setting.misses()[-1] == "expired"


async def test_a_later_entry_of_another_process_is_found_behind_an_outdated_near_one() -> None:
    shared = InProcessCache(size_bytes_max=1 << 20, clock=SystemClock())
    here, there = (Setting(shared, local_bytes_max=1 << 20) for _ in range(2))
    await here.ask()
    for setting in (here, there):
        setting.versions.version += 1
    there.computing.count = 40
    await there.ask()
    assert (await here.ask()).context.text == "answer 41"
    assert here.computing.count == 1


def test_near_entries_are_bounded_and_the_least_used_go_first() -> None:
    near = LocalEntries(size_bytes_max=11_000)
    entry = Entry(_context("x" * 500), 1, NOON, NOON)
    keys = [context_key(ADA, [number]) for number in range(10)]
    for key in keys:
        near.keep(key, entry)
        assert near.find(keys[0]) is not None
    assert [key for key in keys if near.find(key)] == [keys[0], *keys[-3:]]
    near.keep(keys[0], Entry(_context("x" * 9_000), 1, NOON, NOON))
    assert [key for key in keys if near.find(key)] == keys[-3:]
    near.drop(keys[0])


async def test_counts_survive_a_database_that_is_away() -> None:
    ledger, events = Ledger(error=StoreUnavailable("away")), EventLog()
    counter = HitCounter(ledger, clock=SystemClock(), emit=events)
    counter.count(CacheCounts(hits=2))
    with pytest.raises(StoreUnavailable):
        await counter.last_day()
    counter.count(CacheCounts(misses=1))
    ledger.error = None
    assert await counter.last_day() == CacheCounts(hits=2, misses=1)
    await counter.close()
    assert ledger.total.hit_rate == pytest.approx(2 / 3)
    assert [event.message() for event in events.of(CacheUsed)] == ["Cache hit 2, Cache miss 1"]
    assert CacheCounts().hit_rate is None
