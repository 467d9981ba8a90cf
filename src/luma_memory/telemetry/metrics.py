"""Prometheus metrics of one process, derived from its events. The catalogue is docs/metrics.md.

Labels have few values: a job's type, an error's class, a route's template; never a user, an id or a
text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from luma_memory.telemetry.events import (
    CacheHit,
    CacheMiss,
    CacheUnreachable,
    Event,
    JobCompleted,
    JobDeferred,
    JobFailed,
    RecallDegraded,
    ReplicaChanged,
    ReplicaRead,
    RequestHandled,
    SnapshotOutcome,
    SnapshotsKept,
    WebhookAttempted,
    WentWithout,
    WorkerRoundFailed,
)

# A request takes milliseconds, a job of a model provider seconds.
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_JOB_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


# Where it is set before prometheus_client is imported, processes keep their values in files in this
# folder, and each of them reports the sums.
SHARED_METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """Counts events; call it with each."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "luma_request_seconds",
            "Time to serve a request.",
            ("method", "route", "status"),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self._jobs = Histogram(
            "luma_job_seconds",
            "Time of a job that completed, in this process.",
            ("job_type",),
            buckets=_JOB_SECONDS,
            registry=self.registry,
        )
        self._failures = self._counter(
            "luma_job_failures", "Failed attempts.", "job_type", "error_class", "final"
        )
        self._deferrals = self._counter(
            "luma_job_deferrals", "Deferrals, which consume no attempt.", "job_type"
        )
        self._without = self._counter(
            "luma_blocks_without_provider",
            "Blocks active without a provider's step.",
            "step",
            "code",
        )
        self._degraded = self._counter("luma_recall_degraded", "Results without a stage.", "stage")
        self._reads = self._counter(
            "luma_context_cache_reads", "Lookups of cached contexts.", "result"
        )
        self._unreachable = self._counter(
            "luma_cache_unreachable", "Times the cache became unavailable."
        )
        self._webhooks = self._counter(
            "luma_webhook_attempts", "Requests to receivers of webhooks.", "result"
        )
        self._rounds = self._counter(
            "luma_duty_failures", "Rounds of a background duty that failed.", "duty"
        )

        self._snapshot_outcomes = self._counter(
            "luma_snapshot_outcomes", "Searches that could use a snapshot, and changes.", "outcome"
        )
        self._snapshots = self._gauge("luma_snapshots", "Scopes kept in memory for searches.")
        self._snapshot_bytes = self._gauge("luma_snapshot_bytes", "Memory that they take.")
        self._replica_reads = self._counter(
            "luma_replica_reads", "Reads that the replica may serve.", "outcome"
        )
        self._replica_used = self._gauge("luma_replica_used", "Processes that read the replica.")

    def __call__(self, event: Event) -> None:
        match event:
            case RequestHandled():
                labels = (event.method, event.path, str(event.status))
                self._requests.labels(*labels).observe(event.duration_ms / 1000)
            case JobCompleted():
                self._jobs.labels(event.job_type).observe(event.duration_ms / 1000)
            case JobFailed():
                final = str(event.final).lower()
                self._failures.labels(event.job_type, event.error_class, final).inc()
            case JobDeferred():
                self._deferrals.labels(event.job_type).inc()
            case WentWithout():
                self._without.labels(event.step, event.code).inc()
            case RecallDegraded():
                self._degraded.labels(event.stage).inc()
            case CacheHit():
                self._reads.labels("hit").inc()
            case CacheMiss():
                self._reads.labels(event.reason).inc()
            case CacheUnreachable():
                self._unreachable.inc()
            case WebhookAttempted():
                self._webhooks.labels("delivered" if event.is_success else "failed").inc()
            case WorkerRoundFailed():
                self._rounds.labels(event.duty).inc()
            case SnapshotOutcome():
                self._snapshot_outcomes.labels(event.outcome).inc()
            case SnapshotsKept():
                self._snapshots.set(event.count)
                self._snapshot_bytes.set(event.size_bytes)
            case ReplicaRead():
                self._replica_reads.labels(event.outcome).inc()
            case ReplicaChanged():
                self._replica_used.set(event.reason is None)
            case _:
                pass

    @property
    def reported(self) -> CollectorRegistry:
        """The values of this process; of all where several serve one port."""
        if SHARED_METRICS_VARIABLE not in os.environ:
            return self.registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(name, about, registry=self.registry, multiprocess_mode="livesum")

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)


class ScrapedGauge(Collector):
    """A value that is read for each scrape, and so never one of several processes'."""

    def __init__(self, registry: CollectorRegistry, name: str, about: str, *labels: str) -> None:
        self._name, self._about, self._labels = name, about, labels
        self._values: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def set(self, value: float, *labels: str) -> None:
        """labels: one value for each name."""
        self._values[labels] = float(value)

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._about, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


def oldest_pending(registry: CollectorRegistry, seconds: float | None) -> None:
    """The metric for scaling workers; exposed by the API and by every worker."""
    name, about = "luma_oldest_pending_seconds", "Age of the oldest job that could run."
    ScrapedGauge(registry, name, about).set(seconds or 0)
