"""The contract of every background duty; tests/integration/test_duties.py has the real ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from luma_memory.domain.errors import StoreUnavailable
from luma_memory.telemetry.events import WorkerRoundFailed
from luma_memory.testing.event_log import EventLog
from luma_memory.worker.duty import Duty, periodic

RETRY_SECONDS = 60


def _tasks(name: str) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == name]


async def test_every_caller_that_stops_a_duty_waits_for_its_end() -> None:
    begun, may_end, saved = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def loop() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await may_end.wait()  # like the claim, whose last result is pending
            saved.set()

    duty = Duty("saving", loop)
    duty.start()
    await begun.wait()
    stops = [asyncio.create_task(duty.stop()) for _ in range(2)]
    _, waiting = await asyncio.wait(stops, timeout=0.1)
    assert len(waiting) == 2
    assert len(_tasks("saving")) == 1
    may_end.set()
    await asyncio.wait_for(asyncio.gather(*stops), RETRY_SECONDS)
    assert saved.is_set()
    assert _tasks("saving") == []


async def test_a_failed_round_is_followed_by_the_next() -> None:
    rounds = 0
    events, again = EventLog(), asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise StoreUnavailable("PostgreSQL does not respond")
        again.set()

    duty = periodic("prune", work, every_seconds=0.001, emit=events)
    duty.start()
    await asyncio.wait_for(again.wait(), RETRY_SECONDS)
    await duty.stop()
    assert [event.message() for event in events.of(WorkerRoundFailed)] != []


async def test_a_failed_duty_is_reported_once_and_can_be_stopped() -> None:
    async def loop() -> None:
        raise ZeroDivisionError("a bug")

    duty = Duty("dying", loop)
    duty.start()
    with pytest.raises(ZeroDivisionError):
        await duty.ended()
    await duty.stop()
    await duty.stop()
