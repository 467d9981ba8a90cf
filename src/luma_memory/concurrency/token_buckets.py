"""So many uses a minute for each of many names, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import QuotaExceeded

NAMES_MAX = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float  # monotonic


class TokenBuckets:
    """A bucket a name holds a minute's uses and fills evenly.

    The names that were used longest ago are forgotten first, and with them what they have spent;
    beyond NAMES_MAX names at once the limit is lenient, and memory is not used up.
    """

    def __init__(self, per_minute: int, *, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str, message: str, *, code: str) -> None:
        """Use one. Raises QuotaExceeded with `message` and `code` when none is left."""
        bucket = self._filled(name)
        if bucket.left < 1:
            raise QuotaExceeded(
                f"{message}: {self._per_minute} a minute are allowed",
                code=code,
                retry_after_seconds=(1 - bucket.left) * 60 / self._per_minute,
            )
        bucket.left -= 1

    def _filled(self, name: str) -> _Bucket:
        now = self._clock.monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self._per_minute, now)
            if len(self._buckets) > NAMES_MAX:
                self._buckets.popitem(last=False)
        else:
            gained = (now - bucket.at) * self._per_minute / 60
            bucket.left = min(self._per_minute, bucket.left + gained)
            bucket.at = now
            self._buckets.move_to_end(name)
        return bucket
