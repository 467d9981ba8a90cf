"""The criteria of the rollout's phases: pure judgements over what was measured."""

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
READS_MIN: Final = 50  # a rate of fewer says nothing
PENDING_MAX: Final = 50
JOB_SECONDS_MAX: Final = 30.0
IN_TIME_MIN: Final = 0.95
ACCEPT_MS: Final = 200.0
HIT_MS: Final = 500.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What an installation may set itself."""

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
    wanted: str
    found: str
    fix: str


def judged(name: str, holds: bool, *, wanted: str, found: str, fix: str) -> Criterion:
    return Criterion(name, "pass" if holds else "fail", wanted, found, fix)


def service_on(health: HealthBody) -> Criterion:
    off = "" if health.system_enabled else ", MEMORY_SYSTEM_ENABLED is false"
    return judged(
        "service",
        health.status != "unavailable" and health.system_enabled,
        wanted="answers, is switched on",
        found=f"{health.status}{off}",
        fix="luma-memory doctor",
    )


def worker_running(health: HealthBody) -> Criterion:
    return judged(
        "workers",
        health.worker_running,
        wanted="at least one",
        found=str(health.workers),
        fix="start luma-memory worker; MEMORY_WORKER_ENABLED must be true",
    )


def accepted_at_once(statuses: Sequence[str]) -> Criterion:
    """statuses: of the answers to the probe's blocks."""
    waiting = sum(status == "pending_enrichment" for status in statuses)
    return judged(
        "asynchronous ingest",
        waiting == len(statuses) > 0,
        wanted="202 before enrichment",
        found=f"{waiting} of {len(statuses)} blocks",
        fix="set MEMORY_WORKER_ENABLED=true for the API and start it again",
    )


def accept_latency(milliseconds: Sequence[float], limits: Limits) -> Criterion:
    slow = percentile(milliseconds, 0.95)
    return judged(
        "accept latency",
        bool(milliseconds) and slow < limits.accept_ms,
        wanted=f"p95 under {limits.accept_ms:,.0f} ms",
        found=f"p50 {percentile(milliseconds, 0.5):.1f} ms, p95 {slow:.1f} ms",
        fix="look at the database's latency and at MEMORY_DATABASE_POOL_SIZE",
    )


def enriched_in_time(seconds: float | None, counts: Counter[str], limits: Limits) -> Criterion:
    """seconds: until all of the probe's blocks were active; None: they were not in time."""
    told = ", ".join(f"{count} {status}" for status, count in counts.items()) or "none"
    return judged(
        "enrichment",
        seconds is not None,
        wanted=f"blocks active within {limits.enriched_seconds:.0f} s",
        found=f"after {seconds:.1f} s" if seconds is not None else told,
        fix="docs/troubleshooting.md, “Blocks are not enriched”",
    )


def failure_rate(completed: Sequence[JobBody], failed: Sequence[JobBody]) -> Criterion:
    """Of the jobs of one span of time; no jobs are no failures."""
    total = len(completed) + len(failed)
    rate = len(failed) / total if total else 0.0
    return judged(
        "failure rate",
        rate < FAILURE_RATE_MAX,
        wanted=f"under {FAILURE_RATE_MAX:.0%} of 24 hours",
        found=f"{rate:.1%} ({len(failed)} of {total} jobs)",
        fix="docs/troubleshooting.md, “Many jobs fail”",
    )


def cache_connected(cache: CacheStatsBody) -> Criterion:
    """A process's own memory is none that all processes share."""
    return judged(
        "cache",
        cache.connected and cache.backend == "redis",
        wanted="Redis, connected",
        found=f"{cache.backend}, {'connected' if cache.connected else 'does not answer'}",
        fix="set REDIS_URL; docs/troubleshooting.md, “Redis does not respond”",
    )


def hits_served(hits: Sequence[float], asked: int, limits: Limits) -> Criterion:
    """hits: milliseconds of the answers that came from the cache, of `asked` repeated questions."""
    slow = percentile(hits, 0.95)
    return judged(
        "retrieval on hits",
        asked > 0 and len(hits) == asked and slow < limits.hit_ms,
        wanted=f"cached, p95 under {limits.hit_ms:,.0f} ms",
        found=f"{len(hits)} of {asked} cached, p95 {slow:.1f} ms",
        fix="look at REDIS_URL, MEMORY_CACHE_TIMEOUT_MS and GET /cache/stats",
    )


def hit_rate(cache: CacheStatsBody, limits: Limits) -> Criterion:
    reads = (cache.hits or 0) + (cache.misses or 0)
    rate = cache.hit_rate or 0.0
    criterion = judged(
        "hit rate",
        reads >= READS_MIN and rate > HIT_RATE_MIN,
        wanted=f"over {HIT_RATE_MIN:.0%} of 24 hours, {READS_MIN} reads or more",
        found=f"{rate:.0%} of {reads:,} reads",
        fix="too early: --early; else ask the same questions while nothing changes, raise"
        " MEMORY_CACHE_TTL_SECONDS",
    )
    if limits.judge_hit_rate:
        return criterion
    return Criterion("hit rate", "not judged", criterion.wanted, criterion.found, criterion.fix)


def relations_on(health: HealthBody, jobs: Sequence[JobBody]) -> Criterion:
    """jobs: the probe's, of the type detect_relations."""
    ended = sum(job.status == "completed" for job in jobs)
    is_on = health.features.relations
    return judged(
        "relations",
        is_on and ended > 0,
        wanted="switched on, detected",
        found=f"{'on' if is_on else 'off'}, {ended} of {len(jobs)} jobs done",
        fix="set MEMORY_RELATIONS_ENABLED=true for API and workers and start them again",
    )


def rate_limited(jobs: Sequence[JobBody], limits: Limits, now: datetime) -> Criterion:
    """The probe's detections beyond the hour's wait for the next one.

    jobs: as above. How many were granted cannot be told from them: a job that found nothing to
    compare with is done as well, and takes nothing of the limit.
    """
    waiting = sum(job.status == "pending" and job.run_at > now for job in jobs)
    return judged(
        "rate limit",
        waiting > 0 or 0 < len(jobs) <= limits.relations_per_hour,
        wanted=f"beyond {limits.relations_per_hour} detections an hour the probe's user waits",
        found=f"{waiting} of {len(jobs)} wait",
        fix="MEMORY_RELATION_DETECTION_RATE_LIMIT differs between here and the workers, or nothing"
        " was detected yet",
    )


def pending(stats: JobStatsBody) -> Criterion:
    """Those whose time has come; deferred ones wait for a limit or a provider."""
    waiting = max(0, stats.pending - stats.deferred)
    return judged(
        "pending jobs",
        waiting < PENDING_MAX,
        wanted=f"under {PENDING_MAX}",
        found=f"{waiting:,}, and {stats.deferred:,} deferred",
        fix="add workers, or raise MEMORY_WORKER_MAX_CONCURRENT_JOBS",
    )


def jobs_in_time(
    completed: Sequence[JobBody], unfinished: Sequence[JobBody], now: datetime
) -> Criterion:
    """Enrichments; one that waits or runs counts as late once it is older than the limit.

    Not one that was told to wait: for a provider, or for a limit. Nothing at all passes nothing.
    """
    longest = timedelta(seconds=JOB_SECONDS_MAX)
    done = [_waited(job) for job in completed]
    late = sum(now - job.created_at > longest for job in unfinished if job.run_at <= now)
    total = len(done) + late
    share = sum(span <= longest for span in done) / total if total else 0.0
    return judged(
        "jobs in time",
        share >= IN_TIME_MIN,
        wanted=f"{IN_TIME_MIN:.0%} within {JOB_SECONDS_MAX:.0f} s",
        found=f"{share:.1%} of {total:,}",
        fix="add workers, or raise MEMORY_WORKER_MAX_CONCURRENT_JOBS",
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; nan of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _waited(job: JobBody) -> timedelta:
    return (job.finished_at or job.created_at) - job.created_at
