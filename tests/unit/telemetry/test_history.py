"""Counts for the history, and percentiles estimated from them."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.telemetry.events import CacheHit, JobCompleted, JobFailed, RequestHandled
from luma_memory.telemetry.history import RANGES_MS, HistoryCounts, percentile


def test_events_are_counted_by_what_they_are_for() -> None:
    counts = HistoryCounts()
    for event in (
        RequestHandled("POST", "/blocks", 202, 3.4),
        RequestHandled("POST", "/search", 200, 12.0),
        RequestHandled("POST", "/search", 503, 2_000.0),
        RequestHandled("GET", "/health", 503, 1.0),
        JobCompleted(1, "enrich_and_embed", 90_000),
        JobFailed(2, "enrich_and_embed", 1, "provider", "away", final=False),
        CacheHit(1.0, is_checked=True),
    ):
        counts(event)
    taken = counts.take()
    assert taken == {
        "requests": 3,
        "request_errors": 1,
        "accepted": 1,
        "accept_ms:3": 1,
        "searches": 1,
        "search_ms:7": 1,
        "jobs_completed": 1,
        f"job_ms:{len(RANGES_MS)}": 1,
        "job_failures": 1,
        "cache_hits": 1,
    }
    assert counts.take() == {}
    counts.put_back(taken)
    assert counts.take() == taken


@given(st.lists(st.floats(0, 60_000), min_size=2), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_within_the_range_of_the_true_one(
    values: list[float], share: float
) -> None:
    counts = HistoryCounts()
    for value in values:
        counts(RequestHandled("POST", "/blocks", 202, value))
    ranges = Counter(
        {
            int(name.partition(":")[2]): count
            for name, count in counts.take().items()
            if name.startswith("accept_ms:")
        }
    )
    estimate = percentile(ranges, share)
    assert estimate is not None
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    low = max((bound for bound in (0, *RANGES_MS) if bound < true), default=0)
    high = min(bound for bound in RANGES_MS if bound >= true)
    assert low <= estimate <= high


def test_without_values_there_is_no_percentile() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({len(RANGES_MS): 3}, 0.5) == pytest.approx(RANGES_MS[-1])
