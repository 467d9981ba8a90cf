"""The criteria of the rollout phases: pure functions of measurements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from luma_memory.protocol.context import CacheStatsBody
from luma_memory.protocol.health import HealthBody
from luma_memory.protocol.jobs import JobBody, JobStatsBody

Verdict = Literal["pass", "fail", "not judged"]
FAILURE_RATE_MAX: Final = 0.05
HIT_RATE_MIN: Final = 0.40
READS_MIN: Final = 50  # too few reads make no rate
PENDING_MAX: Final = 50
JOB_SECONDS_MAX: Final = 30.0
IN_TIME_MIN: Final = 0.95
ACCEPT_MS: Final = 200.0
HIT_MS: Final = 500.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the criteria that an operator can change."""

    accept_ms: float = ACCEPT_MS
    hit_ms: float = HIT_MS
    judge_hit_rate: bool = True
    relations_per_hour: int = 5
    enriched_seconds: float = JOB_SECONDS_MAX  # how long the probe waits for its blocks


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of the report."""

    name: str
    verdict: Verdict
    expected: str
    measured: str
    fix: str


def judged(name: str, holds: bool, *, expected: str, measured: str, fix: str) -> Criterion:
    return Criterion(name, "pass" if holds else "fail", expected, measured, fix)


def service_on(health: HealthBody) -> Criterion:
    off = "" if health.system_enabled else ", MEMORY_SYSTEM_ENABLED is false"
    return judged(
        "service",
        health.status != "unavailable" and health.system_enabled,
        expected="available and enabled",
        measured=f"{health.status}{off}",
        fix="luma-memory doctor",
    )


def worker_running(health: HealthBody) -> Criterion:
    return judged(
        "workers",
        health.worker_running,
        expected="at least one",
        measured=str(health.workers),
        fix="start luma-memory worker; MEMORY_WORKER_ENABLED must be true",
    )


def accepted_at_once(statuses: Sequence[str]) -> Criterion:
    """statuses: of the responses to the probe's blocks."""
    waiting = sum(status == "pending_enrichment" for status in statuses)
    return judged(
        "asynchronous ingest",
        waiting == len(statuses) > 0,
        expected="202 before enrichment",
        measured=f"{waiting} of {len(statuses)} blocks",
        fix="set MEMORY_WORKER_ENABLED=true for the API and restart it",
    )


def accept_latency(milliseconds: Sequence[float], limits: Limits) -> Criterion:
    slow = percentile(milliseconds, 0.95)
    return judged(
        "accept latency",
        bool(milliseconds) and slow < limits.accept_ms,
        expected=f"p95 under {limits.accept_ms:,.0f} ms",
        measured=f"p50 {percentile(milliseconds, 0.5):.1f} ms, p95 {slow:.1f} ms",
        fix="check the database's latency and MEMORY_DATABASE_POOL_SIZE",
    )


def enriched_in_time(seconds: float | None, counts: Counter[str], limits: Limits) -> Criterion:
    """seconds: until all blocks of the probe were active; None if they were late."""
    by_status = ", ".join(f"{count} {status}" for status, count in counts.items()) or "none"
    return judged(
        "enrichment",
        seconds is not None,
        expected=f"blocks active within {limits.enriched_seconds:.0f} s",
        measured=f"after {seconds:.1f} s" if seconds is not None else by_status,
        fix="docs/troubleshooting.md, “Blocks are not enriched”",
    )


def failure_rate(completed: Sequence[JobBody], failed: Sequence[JobBody]) -> Criterion:
    """Of the jobs of one period; without jobs the rate is 0."""
    total = len(completed) + len(failed)
    rate = len(failed) / total if total else 0.0
    return judged(
        "failure rate",
        rate < FAILURE_RATE_MAX,
        expected=f"under {FAILURE_RATE_MAX:.0%} of 24 hours",
        measured=f"{rate:.1%} ({len(failed)} of {total} jobs)",
        fix="docs/troubleshooting.md, “Many jobs fail”",
    )


def cache_connected(cache: CacheStatsBody) -> Criterion:
    """An in-process cache does not pass: processes do not share it."""
    return judged(
        "cache",
        cache.connected and cache.backend == "redis",
        expected="Redis, connected",
        measured=f"{cache.backend}, {'connected' if cache.connected else 'does not respond'}",
        fix="set REDIS_URL; docs/troubleshooting.md, “Redis does not respond”",
    )


def hits_served(hits: Sequence[float], requests: int, limits: Limits) -> Criterion:
    """hits: milliseconds of the responses from the cache, of `requests` repeated requests."""
    slow = percentile(hits, 0.95)
    return judged(
        "retrieval on hits",
        requests > 0 and len(hits) == requests and slow < limits.hit_ms,
        expected=f"cached, p95 under {limits.hit_ms:,.0f} ms",
        measured=f"{len(hits)} of {requests} cached, p95 {slow:.1f} ms",
        fix="check REDIS_URL, MEMORY_CACHE_TIMEOUT_MS and GET /cache/stats",
    )


def hit_rate(cache: CacheStatsBody, limits: Limits) -> Criterion:
    reads = (cache.hits or 0) + (cache.misses or 0)
    rate = cache.hit_rate or 0.0
    criterion = judged(
        "hit rate",
        reads >= READS_MIN and rate > HIT_RATE_MIN,
        expected=f"over {HIT_RATE_MIN:.0%} of 24 hours, {READS_MIN} reads or more",
        measured=f"{rate:.0%} of {reads:,} reads",
        fix="within 24 hours use --early; otherwise raise MEMORY_CACHE_TTL_SECONDS",
    )
    if limits.judge_hit_rate:
        return criterion
    return Criterion(
        "hit rate", "not judged", criterion.expected, criterion.measured, criterion.fix
    )


def relations_on(health: HealthBody, jobs: Sequence[JobBody]) -> Criterion:
    """jobs: the probe's, of the type detect_relations."""
    ended = sum(job.status == "completed" for job in jobs)
    is_on = health.features.relations
    return judged(
        "relations",
        is_on and ended > 0,
        expected="enabled, detected",
        measured=f"{'on' if is_on else 'off'}, {ended} of {len(jobs)} jobs done",
        fix="set MEMORY_RELATIONS_ENABLED=true for API and workers and restart them",
    )


def rate_limited(jobs: Sequence[JobBody], limits: Limits, now: datetime) -> Criterion:
    """Detections beyond the hourly limit are deferred.

    jobs: as above. They do not show how many detections the limit granted: a job without candidates
    completes as well and does not consume the limit.
    """
    waiting = sum(job.status == "pending" and job.run_at > now for job in jobs)
    return judged(
        "rate limit",
        waiting > 0 or 0 < len(jobs) <= limits.relations_per_hour,
        expected=f"at most {limits.relations_per_hour} detections per hour and user",
        measured=f"{waiting} of {len(jobs)} deferred",
        fix="set the same MEMORY_RELATION_DETECTION_RATE_LIMIT here and for the workers, or wait"
        " for the first detection",
    )


def pending(stats: JobStatsBody) -> Criterion:
    """Due jobs; deferred ones wait for a limit or a provider."""
    waiting = max(0, stats.pending - stats.deferred)
    return judged(
        "pending jobs",
        waiting < PENDING_MAX,
        expected=f"under {PENDING_MAX}",
        measured=f"{waiting:,}, and {stats.deferred:,} deferred",
        fix="add workers, or raise MEMORY_WORKER_MAX_CONCURRENT_JOBS",
    )


def jobs_in_time(
    completed: Sequence[JobBody], unfinished: Sequence[JobBody], now: datetime
) -> Criterion:
    """Enrichments; one that waits or runs counts as late once it is older than the limit.

    Requests refused with a retry time (by a provider or a limit) do not count. Without any
    request the criterion fails.
    """
    longest = timedelta(seconds=JOB_SECONDS_MAX)
    done = [_waited(job) for job in completed]
    late = sum(now - job.created_at > longest for job in unfinished if job.run_at <= now)
    total = len(done) + late
    share = sum(span <= longest for span in done) / total if total else 0.0
    return judged(
        "jobs in time",
        share >= IN_TIME_MIN,
        expected=f"{IN_TIME_MIN:.0%} within {JOB_SECONDS_MAX:.0f} s",
        measured=f"{share:.1%} of {total:,}",
        fix="add workers, or raise MEMORY_WORKER_MAX_CONCURRENT_JOBS",
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; NaN without values."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _waited(job: JobBody) -> timedelta:
    return (job.finished_at or job.created_at) - job.created_at
