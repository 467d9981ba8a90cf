"""Jittered, growing waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.concurrency.retries import jittered, retry_until


@given(st.floats(0, 1e6), st.floats(0, 1), st.floats(1, 2))
def test_a_jittered_wait_stays_within_its_factors(seconds: float, low: float, high: float) -> None:
    assert seconds * low <= jittered(seconds, low=low, high=high) <= seconds * high * (1 + 1e-12)


def test_waits_spread_out() -> None:
    assert len({jittered(1.0) for _ in range(20)}) > 1


async def test_an_error_that_is_not_retried_propagates_at_once() -> None:
    calls = []

    async def attempt() -> None:
        calls.append(1)
        raise IndexError

    with pytest.raises(IndexError):
        await retry_until(attempt, retry_on=KeyError, timeout_seconds=60)
    assert calls == [1]


async def test_without_time_the_first_error_propagates() -> None:
    calls = []

    async def attempt() -> None:
        calls.append(1)
        raise KeyError

    with pytest.raises(KeyError):
        await retry_until(attempt, retry_on=KeyError, timeout_seconds=0)
    assert calls == [1]
