"""Repeat a call with jittered, growing waits until it succeeds or time runs out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")

_FIRST_WAIT_SECONDS = 0.1
_WAIT_SECONDS_MAX = 2.0


def jittered(seconds: float, *, low: float = 0.5, high: float = 1.5) -> float:
    """`seconds` times a random factor in [low, high], so that waiting processes spread out."""
    return seconds * random.uniform(low, high)  # noqa: S311 - spreads load, no secret


async def retry_until(
    attempt: Callable[[], Awaitable[ResultT]],
    *,
    retry_on: type[Exception],
    timeout_seconds: float,
) -> ResultT:
    """The result of `attempt`, repeated while it raises `retry_on`.

    Waits grow from 0.1 to 2 s, jittered so that a fleet does not return at once. The first
    `retry_on` raised after `timeout_seconds` propagates. `attempt` must be safe to repeat: a lost
    response does not say whether the statement was executed.
    """
    try:
        return await attempt()
    except retry_on:
        if timeout_seconds <= 0:
            raise
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + timeout_seconds
    wait_seconds = _FIRST_WAIT_SECONDS
    while True:
        await asyncio.sleep(jittered(wait_seconds))
        wait_seconds = min(wait_seconds * 2, _WAIT_SECONDS_MAX)
        try:
            return await attempt()
        except retry_on:
            if loop.time() >= give_up_at:
                raise
