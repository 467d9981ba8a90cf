"""Counts of one process for the history of the whole service, derived from its events.

Latencies are counted by ranges, so that those of all processes add up. Names have few values, and
never a user, an id or a text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from luma_memory.telemetry.events import (
    CacheHit,
    CacheMiss,
    Event,
    JobCompleted,
    JobFailed,
    RequestHandled,
)

# Upper bounds of the ranges, in milliseconds; one more range has no bound.
RANGES_MS: Final[Sequence[int]] = (
    *(1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 400, 500, 750),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 20_000, 30_000, 60_000),
)
_PROBES: Final = "/health"
# Requests by what they are for: the count, and the latency.
_KINDS: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("POST", "/blocks"): ("accepted", "accept_ms"),
    ("POST", "/blocks/batch"): ("accepted", "accept_ms"),
    ("POST", "/search"): ("searches", "search_ms"),
    ("POST", "/context"): ("contexts", "context_ms"),
}
COUNTS: Final[Sequence[str]] = (
    *("requests", "request_errors", "accepted", "searches", "contexts"),
    *("jobs_completed", "job_failures", "cache_hits", "cache_misses"),
)
LATENCIES: Final[Sequence[str]] = ("accept_ms", "search_ms", "context_ms", "job_ms")


# The name of each range, made once: this runs for every request.
_RANGES: Final[Mapping[str, Sequence[str]]] = {
    name: [f"{name}:{number}" for number in range(len(RANGES_MS) + 1)] for name in LATENCIES
}


class HistoryCounts:
    """Counts events; call it with each. Not thread-safe: events come from the event loop."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(int)

    def __call__(self, event: Event) -> None:
        match event:
            case RequestHandled():
                self._note_request(event)
            case CacheHit():
                self._counts["cache_hits"] += 1
            case CacheMiss():
                self._counts["cache_misses"] += 1
            case JobCompleted():
                self._counts["jobs_completed"] += 1
                self._note_time("job_ms", event.duration_ms)
            case JobFailed():
                self._counts["job_failures"] += 1
            case _:
                pass

    @property
    def has_any(self) -> bool:
        """Whether anything was counted since the last `take`."""
        return bool(self._counts)

    def take(self) -> dict[str, int]:
        """The counts since the last call, without zeros."""
        taken, self._counts = self._counts, defaultdict(int)
        return dict(taken)

    def put_back(self, counts: Mapping[str, int]) -> None:
        """Counts that were taken and could not be stored."""
        for name, count in counts.items():
            self._counts[name] += count

    def _note_request(self, event: RequestHandled) -> None:
        if event.path.startswith(_PROBES):
            return
        counts = self._counts
        counts["requests"] += 1
        if event.status >= 500:
            counts["request_errors"] += 1
        elif event.status < 300 and (kind := _KINDS.get((event.method, event.path))):
            counts[kind[0]] += 1
            self._note_time(kind[1], event.duration_ms)

    def _note_time(self, name: str, duration_ms: float) -> None:
        self._counts[_RANGES[name][bisect_left(RANGES_MS, duration_ms)]] += 1


def percentile(ranges: Mapping[int, float], share: float) -> float | None:
    """An estimate from counts by range: within a range, values are taken as evenly spread.

    share: 0.5 for the median. None without values; what is beyond the last bound counts as it.
    """
    left = share * sum(ranges.values())
    if left <= 0:
        return None
    for number in sorted(ranges):
        if number >= len(RANGES_MS):
            break
        if left <= ranges[number]:
            low = RANGES_MS[number - 1] if number else 0
            return low + (RANGES_MS[number] - low) * left / ranges[number]
        left -= ranges[number]
    return float(RANGES_MS[-1])
