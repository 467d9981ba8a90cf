"""Our own outages are waited out, not counted against anybody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from luma_memory.domain.errors import StoreUnavailable

ResultT = TypeVar("ResultT")

_FIRST_WAIT_SECONDS = 0.1
_WAIT_SECONDS_MAX = 2.0
_JITTER = (0.5, 1.5)


async def until_available(
    attempt: Callable[[], Awaitable[ResultT]], *, patience_seconds: float
) -> ResultT:
    """The result of `attempt`, tried again while PostgreSQL does not answer.

    Waits grow from 0.1 to 2 s, with jitter so that a fleet does not return as one. The first
    StoreUnavailable that comes after `patience_seconds` is raised. `attempt` must be safe to
    repeat: a lost answer does not say whether the statement was carried out.
    """
    try:
        return await attempt()
    except StoreUnavailable:
        if patience_seconds <= 0:
            raise
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + patience_seconds
    wait_seconds = _FIRST_WAIT_SECONDS
    while True:
        await asyncio.sleep(wait_seconds * random.uniform(*_JITTER))  # noqa: S311 - jitter
        wait_seconds = min(wait_seconds * 2, _WAIT_SECONDS_MAX)
        try:
            return await attempt()
        except StoreUnavailable:
            if loop.time() >= give_up_at:
                raise
