"""When and after which pause a call is retried."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from luma_memory.client.calls import Call
from luma_memory.concurrency.retries import jittered
from luma_memory.domain.errors import LumaMemoryError, QuotaExceeded, UnavailableError

# The request was never sent, so it has had no effect.
NEVER_SENT = "service_unreachable"
# Disabled by an operator: retrying within seconds does not help.
_LASTING = frozenset({"system_disabled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Retry policy: limited in attempts and time, with jitter.

    Only safe calls are retried: reads, and writes with an idempotency key. A pause is a random
    share, at least half, of `first_pause_seconds` doubled with every attempt, or the Retry-After
    of the response if that is longer. A pause that would end after `seconds_max` is not started.
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
    """The attempts of one call."""

    def __init__(self, retries: Retries, *, now: Callable[[], float] = time.monotonic) -> None:
        self._retries = retries
        self._now = now
        self._until = now() + retries.seconds_max
        self._made = 0

    def pause_after(self, error: LumaMemoryError, call: Call) -> float | None:
        """Seconds until the next attempt; None if this error is final."""
        self._made += 1
        if self._made >= self._retries.attempts_max or not _may_help(error, call):
            return None
        pause = max(self._backoff(), _requested_pause(error))
        return pause if self._now() + pause <= self._until else None

    def _backoff(self) -> float:
        longest = self._retries.first_pause_seconds * 2.0 ** min(self._made - 1, 32)
        return jittered(min(longest, self._retries.pause_seconds_max), high=1.0)


def _may_help(error: LumaMemoryError, call: Call) -> bool:
    if error.code in _LASTING or not isinstance(error, UnavailableError | QuotaExceeded):
        return False
    return call.is_repeatable or error.code == NEVER_SENT


def _requested_pause(error: LumaMemoryError) -> float:
    assert isinstance(error, UnavailableError | QuotaExceeded)
    return error.retry_after_seconds or 0.0
