"""How long a statement waits for a database that no longer responds, by the event loop's clock."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any, cast

import asyncpg
import pytest

from luma_memory.postgres import liveness
from luma_memory.postgres.liveness import Liveness, ServerAwayError

REQUIRED_SECONDS = 2.0
# For the event loop and the way back to the client.
SPARE_SECONDS = 0.3


class _Frozen:
    """A connection whose queries get no response."""

    def __init__(self) -> None:
        self.is_cut = False

    def is_closed(self) -> bool:
        return self.is_cut

    def terminate(self) -> None:
        self.is_cut = True

    async def execute(self, _query: str) -> str:
        await asyncio.Event().wait()
        raise AssertionError


class _Skipping(selectors.DefaultSelector):
    """Passes the time instead of waiting for it."""

    now = 0.0
    late = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.now += timeout + self.late
        return super().select(0)


@pytest.fixture
def loop() -> Any:
    selector = _Skipping()
    made = asyncio.SelectorEventLoop(selector)
    made.time = lambda: selector.now  # type: ignore[method-assign]
    yield made
    made.close()


async def _connect() -> asyncpg.Connection:
    return cast("asyncpg.Connection", _Frozen())


async def _refused_after(watch: Liveness, begins_at: float) -> float:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(begins_at)
    started = loop.time()
    with pytest.raises(ServerAwayError), watch.watched():
        await asyncio.Event().wait()
    return loop.time() - started


def test_every_wait_ends_in_time(loop: asyncio.SelectorEventLoop) -> None:
    """The first, those that begin while it is probed, and those behind the first refusals."""

    async def waits() -> list[float]:
        watch = Liveness(_connect)
        await watch.open()
        try:
            begins = [0.05 * n for n in range(120)]
            return await asyncio.gather(*(_refused_after(watch, at) for at in begins))
        finally:
            await watch.close()

    seconds = loop.run_until_complete(waits())
    assert min(seconds) == 0.0  # while it is known to be away
    assert max(seconds) <= REQUIRED_SECONDS - SPARE_SECONDS
    assert seconds[0] <= liveness.DOUBT_SECONDS + liveness.PROBE_SECONDS + 0.01


def test_what_queues_behind_a_statement_is_refused_with_it(loop: asyncio.SelectorEventLoop) -> None:
    """One statement after the other, as batches of accepted blocks are."""

    async def waits() -> list[float]:
        watch = Liveness(_connect)
        await watch.open()
        turn = asyncio.Lock()

        async def wait() -> float:
            async with turn:
                with pytest.raises(ServerAwayError), watch.watched():
                    await asyncio.Event().wait()
            return asyncio.get_running_loop().time()

        try:
            return await asyncio.gather(*(wait() for _ in range(10)))
        finally:
            await watch.close()
            await asyncio.sleep(0)  # the cancelled probe ends

    assert max(loop.run_until_complete(waits())) <= REQUIRED_SECONDS - SPARE_SECONDS


def test_statements_are_sent_again_once_a_probe_succeeds(loop: asyncio.SelectorEventLoop) -> None:
    class Thawing(_Frozen):
        async def execute(self, query: str) -> str:
            if asyncio.get_running_loop().time() < 5.0:
                return await super().execute(query)
            return "SELECT"

    async def connect() -> asyncpg.Connection:
        return cast("asyncpg.Connection", Thawing())

    async def first_success() -> float:
        watch = Liveness(connect)
        await watch.open()
        try:
            await _refused_after(watch, 0.0)
            while True:
                try:
                    with watch.watched():
                        return asyncio.get_running_loop().time()
                except ServerAwayError:
                    await asyncio.sleep(0.1)
        finally:
            await watch.close()

    assert 5.0 <= loop.run_until_complete(first_success()) <= 7.0


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_late_event_loop_gives_the_server_more_time(
    loop: asyncio.SelectorEventLoop, is_busy: bool
) -> None:
    """A response that a busy machine reads late does not mean that the server is away."""
    response_seconds = 1.5 * liveness.PROBE_SECONDS

    class Slow(_Frozen):
        async def execute(self, _query: str) -> str:
            await asyncio.sleep(response_seconds)
            return "SELECT"

    async def connect() -> asyncpg.Connection:
        return cast("asyncpg.Connection", Slow())

    async def is_awaited() -> bool:
        watch = Liveness(connect)
        await watch.open()
        selector = loop._selector  # type: ignore[attr-defined]
        selector.late = 0.2 if is_busy else 0.0
        try:
            with watch.watched():
                await asyncio.sleep(liveness.DOUBT_SECONDS + 1.2 * response_seconds)
        except ServerAwayError:
            return False
        finally:
            await watch.close()
            await asyncio.sleep(0)
        return True

    assert loop.run_until_complete(is_awaited()) == is_busy
