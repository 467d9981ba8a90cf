"""The rules of asyncio.timeout, by which a time limit is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

import pytest

from luma_memory.concurrency.deadline import TimeLimit

SOON, LATE = 0.01, 60.0


class _Entered:
    """A TimeLimit in the form of asyncio.timeout."""

    def __init__(self, seconds: float) -> None:
        self._limit = TimeLimit(seconds)

    async def __aenter__(self) -> Self:
        self._limit.__enter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        self._limit.__exit__(*raised)


@pytest.fixture(params=[_Entered, asyncio.timeout])
def limited(request: pytest.FixtureRequest) -> Callable[[float], AbstractAsyncContextManager[Any]]:
    """Both, so that a difference between them fails."""
    limit: Callable[[float], AbstractAsyncContextManager[Any]] = request.param
    return limit


Limited = Callable[[float], AbstractAsyncContextManager[Any]]


async def test_work_that_ends_in_time_is_left_alone(limited: Limited) -> None:
    async with limited(LATE):
        await asyncio.sleep(0)


async def test_work_that_takes_longer_ends_in_a_time_out(limited: Limited) -> None:
    with pytest.raises(TimeoutError):
        async with limited(SOON):
            await asyncio.Event().wait()
    await asyncio.sleep(0)  # the task may continue: its cancellation was withdrawn


async def test_an_error_of_the_work_stays_itself(limited: Limited) -> None:
    with pytest.raises(ValueError, match="own"):
        async with limited(LATE):
            raise ValueError("own")


async def test_a_cancellation_from_outside_is_not_a_timeout(limited: Limited) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with limited(LATE):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_and_over_at_once_is_a_cancellation(limited: Limited) -> None:
    async def work() -> None:
        async with limited(SOON):
            try:
                await asyncio.Event().wait()
            finally:
                own_task.cancel()

    own_task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await own_task


async def test_the_inner_of_two_limits_ends_alone(limited: Limited) -> None:
    async with limited(LATE):
        with pytest.raises(TimeoutError):
            async with limited(SOON):
                await asyncio.Event().wait()
        await asyncio.sleep(0)


async def test_the_outer_of_two_limits_ends_both(limited: Limited) -> None:
    with pytest.raises(TimeoutError):
        async with limited(SOON), limited(LATE):
            await asyncio.Event().wait()
