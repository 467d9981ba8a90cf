"""Latencies between two snapshots of the metrics."""

from __future__ import annotations

import math

import pytest
from prometheus_client import generate_latest

from luma_memory.cli.latencies import Histogram, request_histograms
from luma_memory.telemetry.events import RequestHandled
from luma_memory.telemetry.metrics import Metrics

ROUTE = ("GET", "/blocks")


def latency(metrics: Metrics) -> Histogram:
    return request_histograms(generate_latest(metrics.registry).decode())[ROUTE]


def test_only_observations_since_the_last_snapshot_count() -> None:
    metrics = Metrics()
    for _ in range(100):
        metrics(RequestHandled(*ROUTE, 200, 4_000.0))
    before = latency(metrics)
    for milliseconds in (2.0, 2.0, 2.0, 80.0):
        metrics(RequestHandled(*ROUTE, 200, milliseconds))
    metrics(RequestHandled(*ROUTE, 503, 80.0))
    fresh = latency(metrics).since(before)
    assert (fresh.count, fresh.errors) == (5, 1)
    median, slow = fresh.quantile_seconds(0.5), fresh.quantile_seconds(0.95)
    assert median is not None
    assert slow is not None
    assert 0.001 < median <= 0.0025
    assert 0.05 < slow <= 0.1


def test_a_process_that_began_anew_counts_from_nothing() -> None:
    old, new = Histogram({1.0: 9.0, math.inf: 9.0}), Histogram({1.0: 2.0, math.inf: 2.0})
    assert new.since(old).count == 2


def test_nothing_has_no_latency_and_the_last_bound_is_the_longest() -> None:
    assert Histogram().quantile_seconds(0.5) is None
    assert Histogram({1.0: 0.0, math.inf: 3.0}).quantile_seconds(0.5) == 1.0


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        request_histograms("luma_request_seconds_bucket{le=")
