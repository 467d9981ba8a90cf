"""When a call is sent again, and after what pause."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from luma_memory.client.calls import Call
from luma_memory.concurrency.retries import jittered
from luma_memory.domain.errors import LumaMemoryError, QuotaExceeded, UnavailableError

# Nothing got through, so nothing can have been done.
NEVER_SENT = "service_unreachable"
# Switched off by an operator: that is no matter of seconds.
_LASTING = frozenset({"system_disabled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How long a call is tried: bounded in attempts and in time, and jittered.

    Only what is safe is sent again: reads, and writes under an idempotency key. A pause is a random
    part, half at least, of `first_pause_seconds` doubled with every attempt, or what Retry-After
    says where that is longer; a pause that would end after `seconds_max` is not begun.
    """

    attempts_max: int = 5
    seconds_max: float = 30.0
    first_pause_seconds: float = 0.2
    pause_seconds_max: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts_max < 1:
            raise ValueError("attempts_max must be at least 1")


NO_RETRIES = Retries(attempts_max=1)


class Attempts:
    """The attempts of one call, from its first on."""

    def __init__(self, retries: Retries, *, now: Callable[[], float] = time.monotonic) -> None:
        self._retries = retries
        self._now = now
        self._until = now() + retries.seconds_max
        self._made = 0

    def pause_after(self, error: LumaMemoryError, call: Call) -> float | None:
        """Seconds until the next attempt; None when this error is the outcome."""
        self._made += 1
        if self._made >= self._retries.attempts_max or not _may_help(error, call):
            return None
        pause = max(self._backoff(), _asked_for(error))
        return pause if self._now() + pause <= self._until else None

    def _backoff(self) -> float:
        longest = self._retries.first_pause_seconds * 2.0 ** min(self._made - 1, 32)
        return jittered(min(longest, self._retries.pause_seconds_max), high=1.0)


def _may_help(error: LumaMemoryError, call: Call) -> bool:
    if error.code in _LASTING or not isinstance(error, UnavailableError | QuotaExceeded):
        return False
    return call.is_repeatable or error.code == NEVER_SENT


def _asked_for(error: LumaMemoryError) -> float:
    assert isinstance(error, UnavailableError | QuotaExceeded)
    return error.retry_after_seconds or 0.0
