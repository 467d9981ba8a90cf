"""Requests and their latencies between two snapshots of a process's metrics."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

_METRIC = "luma_request_seconds"
Route: TypeAlias = tuple[str, str]  # method, template of the path


@dataclass(slots=True)
class Histogram:
    """Cumulative request counts by upper bounds in seconds; +Inf counts all requests."""

    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    errors: float = 0.0  # responses with 5xx

    @property
    def count(self) -> float:
        return self.buckets.get(math.inf, 0.0)

    def since(self, earlier: Histogram) -> Histogram:
        """The requests after an earlier snapshot; all of them if the process was restarted."""
        if self.count < earlier.count:
            return self
        buckets = {
            bound: count - earlier.buckets.get(bound, 0.0) for bound, count in self.buckets.items()
        }
        return Histogram(buckets, self.errors - earlier.errors)

    def quantile_seconds(self, share: float) -> float | None:
        """Interpolated within its bucket, as Prometheus does; None without requests.

        Beyond the last finite bound it is that bound.
        """
        if not self.count:
            return None
        rank, below, lower = share * self.count, 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= rank:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / max(count - below, 1e-9)
            below, lower = count, bound
        return lower


def request_histograms(exposition: str) -> Mapping[Route, Histogram]:
    """By route, for all statuses. Raises ValueError for an invalid exposition."""
    found: dict[Route, Histogram] = defaultdict(Histogram)
    for family in text_string_to_metric_families(exposition):
        if family.name != _METRIC:
            continue
        for sample in family.samples:
            route = (sample.labels.get("method", ""), sample.labels.get("route", ""))
            if sample.name == f"{_METRIC}_bucket":
                found[route].buckets[float(sample.labels["le"])] += sample.value
            elif sample.name == f"{_METRIC}_count" and sample.labels["status"].startswith("5"):
                found[route].errors += sample.value
    return found
