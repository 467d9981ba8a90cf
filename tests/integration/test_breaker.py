"""What one worker learns of a provider, all know: breakers of several processes on one database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import pytest

from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderPaused,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StoreUnavailable,
)
from luma_memory.ports.circuits import CircuitNote, CircuitView
from luma_memory.postgres.database import Database
from luma_memory.providers.breaker import PROBED_SECONDS, Breaker
from luma_memory.store.circuits import CircuitTimes, PostgresCircuits

TIMES = CircuitTimes()
AWAY = ProviderUnavailable("it is away")
LIMITED = RateLimited("wait", retry_after_seconds=60)
BAD_KEY = ProviderRejected("no such key", code="provider_bad_key")


class MovedClock:
    """A clock moved by the test, so that what is known of other processes has a given age."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Worker:
    """A process with a breaker, and a provider whose outcome the test sets."""

    breaker: Breaker
    clock: MovedClock
    calls: int = 0

    async def call(self, error: Exception | None = None) -> None:
        async def work() -> None:
            self.calls += 1
            if error is not None:
                raise error

        await self.breaker.call(work)

    async def fails(self, error: LumaMemoryError) -> None:
        with pytest.raises(type(error)) as caught:
            await self.call(error)
        assert caught.value is error

    async def later(self) -> None:
        self.clock.seconds += 10


@pytest.fixture
def worker(connect_database: Callable[[], Database]) -> Callable[[], Worker]:
    def make() -> Worker:
        clock = MovedClock()
        circuits = PostgresCircuits(connect_database(), TIMES)
        return Worker(Breaker(circuits, "enrich m @1", clock=clock), clock)  # type: ignore[arg-type]

    return make


async def _passes(connection: asyncpg.Connection, duration: timedelta) -> None:
    """Let so much time pass for the circuit."""
    await connection.execute(
        "UPDATE memory_circuits SET blocked_until = blocked_until - $1::interval,"
        " probe_until = probe_until - $1::interval",
        duration,
    )


async def _state(connection: asyncpg.Connection) -> str:
    state: str = await connection.fetchval("SELECT state FROM memory_circuits")
    return state


async def test_a_rate_limit_of_one_worker_pauses_all(
    worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    first, *others = [worker() for _ in range(4)]
    await first.fails(LIMITED)
    for other in (*others, first):
        with pytest.raises(RateLimited) as caught:
            await other.call()
        assert caught.value.retry_after_seconds == pytest.approx(60, abs=5)
    assert [other.calls for other in others] == [0, 0, 0]
    assert first.calls == 1
    await _passes(connection, timedelta(seconds=61))
    for other in others:
        await other.later()
        await other.call()
    assert await _state(connection) == "closed"


async def test_a_longer_wait_is_kept_and_a_late_success_does_not_end_it(
    worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    first, second = worker(), worker()
    started, may_continue = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        started.set()
        await may_continue.wait()

    running_call = asyncio.create_task(first.breaker.call(slow))
    await started.wait()
    await second.fails(LIMITED)
    await first.fails(RateLimited("wait", retry_after_seconds=1))
    may_continue.set()
    await running_call
    with pytest.raises(RateLimited) as caught:
        await worker().call()
    assert caught.value.retry_after_seconds > 30


@pytest.mark.parametrize("error", [AWAY, ProviderTimeout("late")])
async def test_failures_of_all_workers_together_open_the_circuit(
    error: LumaMemoryError, worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    workers = [worker() for _ in range(TIMES.away_failures)]
    for each in workers:
        await each.fails(error)
    another = worker()
    with pytest.raises(ProviderPaused) as caught:
        await another.call()
    assert caught.value.retry_after_seconds == pytest.approx(5, abs=1.5)
    assert str(caught.value) == str(error)
    assert another.calls == 0


async def test_failures_with_a_success_between_open_nothing(
    worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    one = worker()
    for _ in range(3):
        for _ in range(TIMES.away_failures - 1):
            await one.fails(AWAY)
        await one.call()
    assert await _state(connection) == "closed"


@pytest.mark.parametrize(
    "error",
    [
        ProviderResponseInvalid("no JSON"),
        ProviderRejected("refused", code="provider_refused"),
        ProviderRejected("too long", code="provider_input_too_long"),
    ],
)
async def test_faults_of_single_texts_open_nothing(
    error: LumaMemoryError, worker: Callable[[], Worker]
) -> None:
    one = worker()
    for _ in range(20):
        await one.fails(error)
    await one.call()


async def test_a_refused_account_is_probed_occasionally(
    worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    one, other = worker(), worker()
    for _ in range(TIMES.refused_failures):
        await one.fails(BAD_KEY)
    with pytest.raises(ProviderRejected) as caught:
        await other.call()
    assert (caught.value.code, other.calls) == ("provider_bad_key", 0)
    await _passes(connection, timedelta(seconds=6))
    await other.later()
    await other.call()
    assert await _state(connection) == "closed"


async def test_one_caller_tries_and_the_others_wait_for_what_it_finds(
    worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    first, second = worker(), worker()
    for _ in range(TIMES.away_failures):
        await first.fails(AWAY)
    await _passes(connection, timedelta(seconds=6))
    await first.later()
    trying, may_respond = asyncio.Event(), asyncio.Event()

    async def probe() -> None:
        trying.set()
        await may_respond.wait()

    running_call = asyncio.create_task(first.breaker.call(probe))
    await trying.wait()
    for other in (first, second):
        with pytest.raises(ProviderPaused) as caught:
            await other.call()
        assert caught.value.retry_after_seconds == PROBED_SECONDS
    may_respond.set()
    await running_call
    await second.later()
    await second.call()


async def test_the_pause_doubles_with_every_failed_try(
    worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    one = worker()
    for _ in range(TIMES.away_failures):
        await one.fails(AWAY)
    pauses = []
    for _ in range(6):
        left = "SELECT extract(epoch FROM blocked_until - now())::float FROM memory_circuits"
        pauses.append(round(await connection.fetchval(left)))
        await _passes(connection, timedelta(minutes=2))
        await one.later()
        await one.fails(AWAY)
    assert pauses == [pytest.approx(seconds, abs=1) for seconds in (5, 10, 20, 40, 60, 60)]
    assert one.calls == TIMES.away_failures + 6


async def test_a_probe_without_a_result_is_taken_over_by_another_process(
    worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    one, other = worker(), worker()
    for _ in range(TIMES.away_failures):
        await one.fails(AWAY)
    await _passes(connection, timedelta(seconds=6))
    await one.later()
    trying = asyncio.Event()

    async def for_ever() -> None:
        trying.set()
        await asyncio.Event().wait()

    hanging = asyncio.create_task(one.breaker.call(for_ever))
    await trying.wait()
    hanging.cancel()
    await asyncio.wait([hanging])
    await _passes(connection, TIMES.probe)
    await other.call()
    assert await _state(connection) == "closed"


class NoDatabase:
    async def enter(self, name: str) -> CircuitView:
        raise StoreUnavailable("gone")

    async def note(self, name: str, note: CircuitNote) -> None:
        raise StoreUnavailable("gone")


async def test_without_the_database_every_call_is_let_through() -> None:
    clock = MovedClock()
    cut_off = Worker(Breaker(NoDatabase(), "x", clock=clock), clock)  # type: ignore[arg-type]
    for _ in range(10):
        await cut_off.fails(AWAY)
    await cut_off.call()


async def test_a_healthy_provider_costs_a_statement_a_second_and_no_more(
    worker: Callable[[], Worker], connection: asyncpg.Connection
) -> None:
    one = worker()
    for _ in range(100):
        await one.call()
    # Nothing was written: there is nothing to report.
    assert await connection.fetchval("SELECT count(*) FROM memory_circuits") == 0
