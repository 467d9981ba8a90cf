"""Rate limits for many names in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

NAMES_MAX = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float  # monotonic


class TokenBuckets:
    """Each name has a bucket that holds a minute's uses and refills evenly.

    The names used longest ago are forgotten first, together with what they have spent; beyond
    NAMES_MAX names at once the limit is lenient, and memory stays bounded. monotonic: seconds.
    """

    def __init__(self, per_minute: int, *, monotonic: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> float:
        """Take a token and return 0; without one left, the seconds until the next."""
        bucket = self._filled(name)
        if bucket.left < 1:
            return (1 - bucket.left) * 60 / self.per_minute
        bucket.left -= 1
        return 0.0

    def _filled(self, name: str) -> _Bucket:
        now = self._monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self.per_minute, now)
            if len(self._buckets) > NAMES_MAX:
                self._buckets.popitem(last=False)
        else:
            gained = (now - bucket.at) * self.per_minute / 60
            bucket.left = min(self.per_minute, bucket.left + gained)
            bucket.at = now
            self._buckets.move_to_end(name)
        return bucket
