"""The time limit of a Redis command, in an event loop that is punctual or late."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import pytest

from luma_memory.cache.redis import _Deadline

SECONDS = 0.04


class _Skipping(selectors.DefaultSelector):
    """Passes the time instead of waiting for it; `late` seconds more than requested."""

    now = 0.0
    late = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.now += timeout + self.late
        return super().select(0)


async def _ends_in_time(reply_turns: int) -> bool:
    """Whether a reply is awaited that this many turns of the event loop are needed for."""
    try:
        with _Deadline(SECONDS):
            for _ in range(reply_turns):
                await asyncio.sleep(SECONDS / 5)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    ("late", "reply_turns", "is_awaited"),
    [
        (0.0, 4, True),
        (0.0, 6, False),
        (0.05, 4, True),  # 230 ms by the clock, of which Redis had few turns
        (0.05, 60, False),
    ],
)
def test_a_late_event_loop_gives_redis_more_time(
    late: float, reply_turns: int, is_awaited: bool
) -> None:
    selector = _Skipping()
    selector.late = late
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        assert loop.run_until_complete(_ends_in_time(reply_turns)) == is_awaited
    finally:
        loop.close()
