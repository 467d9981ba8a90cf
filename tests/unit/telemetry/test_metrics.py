"""Events become numbers that Prometheus understands."""

from __future__ import annotations

from prometheus_client import generate_latest

from luma_memory.telemetry.events import (
    CacheHit,
    CacheMiss,
    CacheUnreachable,
    JobCompleted,
    JobDeferred,
    JobFailed,
    Notice,
    RecallDegraded,
    RequestHandled,
    WentWithout,
    WorkerRoundFailed,
)
from luma_memory.telemetry.metrics import Metrics


def _series(metrics: Metrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_each_event_is_counted_under_its_labels() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics(RequestHandled("GET", "/blocks/{block_id}", 200, 12.5))
        metrics(JobCompleted(1, "enrich_and_embed", 250))
        metrics(JobFailed(1, "enrich_and_embed", 1, "provider", "a secret text", final=False))
        metrics(JobDeferred(1, "enrich_and_embed", 5.0, "a secret text"))
        metrics(WentWithout(1, "enrich", "provider_timeout", "a secret text"))
        metrics(RecallDegraded("embedding", "a secret text"))
        metrics(WorkerRoundFailed("claim", "a secret text"))
        metrics(CacheHit(age_seconds=1.0, is_checked=True))
        metrics(CacheMiss("changed"))
        metrics(CacheUnreachable("a secret text"))
        metrics(Notice("a secret text"))
    series = _series(metrics)
    request = '{method="GET",route="/blocks/{block_id}",status="200"}'
    assert series[f"luma_request_seconds_count{request}"] == 2
    assert series[f"luma_request_seconds_sum{request}"] == 0.025
    assert series['luma_job_seconds_sum{job_type="enrich_and_embed"}'] == 0.5
    failed = '{error_class="provider",final="false",job_type="enrich_and_embed"}'
    assert series[f"luma_job_failures_total{failed}"] == 2
    assert series['luma_job_deferrals_total{job_type="enrich_and_embed"}'] == 2
    without = '{code="provider_timeout",step="enrich"}'
    assert series[f"luma_blocks_without_provider_total{without}"] == 2
    assert series['luma_recall_degraded_total{stage="embedding"}'] == 2
    assert series['luma_duty_failures_total{duty="claim"}'] == 2
    assert series['luma_context_cache_reads_total{result="hit"}'] == 2
    assert series['luma_context_cache_reads_total{result="changed"}'] == 2
    assert series["luma_cache_unreachable_total"] == 2
    assert "secret" not in generate_latest(metrics.registry).decode()
