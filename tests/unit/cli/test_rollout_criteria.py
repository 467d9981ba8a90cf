"""The judgements of `rollout check`, each at its edge."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.health import healthy

from luma_memory.cli import rollout_criteria as criteria
from luma_memory.cli.rollout_criteria import Limits
from luma_memory.protocol.context import CacheStatsBody
from luma_memory.protocol.jobs import JobBody, JobStatsBody

NOW = datetime(2026, 3, 4, 18, 30, tzinfo=UTC)


def job(*, seconds: float = 1.0, **changes: Any) -> JobBody:
    """A job that was created now and ended so much later."""
    fields = {
        **dict.fromkeys(("block_id", "fair_at", "locked_by", "locked_until", "unique_key")),
        **dict.fromkeys(("error_class", "last_error", "started_at")),
        "id": 1,
        "project_id": "default",
        "user_id": "ada",
        "payload": {},
        "priority": 0,
        "job_type": "enrich_and_embed",
        "status": "completed",
        "attempts": 1,
        "max_attempts": 3,
        "run_at": NOW,
        "created_at": NOW,
        "finished_at": NOW + timedelta(seconds=seconds),
        **changes,
    }
    return JobBody.model_validate(fields)


@pytest.mark.parametrize(("failed", "verdict"), [(4, "pass"), (5, "fail"), (0, "pass")])
def test_five_in_a_hundred_are_too_many(failed: int, verdict: str) -> None:
    found = criteria.failure_rate([job()] * (100 - failed), [job(status="failed")] * failed)
    assert found.verdict == verdict


def test_no_jobs_are_no_failures() -> None:
    assert criteria.failure_rate([], []).verdict == "pass"


@pytest.mark.parametrize(
    ("hits", "misses", "judge", "verdict"),
    [
        (41, 59, True, "pass"),
        (40, 60, True, "fail"),
        (40, 9, True, "fail"),  # too few reads to say
        (0, 60, False, "not judged"),
    ],
)
def test_the_hit_rate_is_over_forty_percent(
    hits: int, misses: int, judge: bool, verdict: str
) -> None:
    cache = CacheStatsBody(
        connected=True,
        keys_count=1,
        memory_used=None,
        memory_used_bytes=None,
        backend="redis",
        hits=hits,
        misses=misses,
        hit_rate=hits / (hits + misses),
    )
    assert criteria.hit_rate(cache, Limits(judge_hit_rate=judge)).verdict == verdict


@pytest.mark.parametrize(
    ("done", "waiting", "verdict"),
    [(6, 14, "pass"), (20, 0, "fail"), (0, 0, "fail"), (5, 0, "pass"), (19, 1, "pass")],
)
def test_detections_beyond_the_hours_have_to_wait(done: int, waiting: int, verdict: str) -> None:
    later = NOW + timedelta(minutes=40)
    jobs = [job(job_type="detect_relations")] * done
    jobs += [job(job_type="detect_relations", status="pending", run_at=later)] * waiting
    assert criteria.rate_limited(jobs, Limits(), NOW).verdict == verdict


def test_a_detection_that_waits_for_a_worker_is_not_limited() -> None:
    jobs = [job(job_type="detect_relations", status="pending", run_at=NOW)] * 20
    assert criteria.rate_limited(jobs, Limits(), NOW).verdict == "fail"


@pytest.mark.parametrize(
    ("is_on", "ended", "verdict"), [(True, 1, "pass"), (True, 0, "fail"), (False, 1, "fail")]
)
def test_relations_are_on_and_detected(is_on: bool, ended: int, verdict: str) -> None:
    jobs = [job(job_type="detect_relations")] * ended
    assert criteria.relations_on(healthy(relations=is_on), jobs).verdict == verdict


@pytest.mark.parametrize(
    ("waiting", "deferred", "verdict"), [(49, 0, "pass"), (50, 0, "fail"), (500, 460, "pass")]
)
def test_fifty_pending_jobs_are_too_many_deferred_ones_aside(
    waiting: int, deferred: int, verdict: str
) -> None:
    stats = JobStatsBody(
        pending=waiting,
        processing=0,
        completed=0,
        failed=0,
        deferred=deferred,
        oldest_pending_seconds=None,
    )
    assert criteria.pending(stats).verdict == verdict


@pytest.mark.parametrize(("late", "verdict"), [(5, "pass"), (6, "fail")])
def test_one_in_twenty_may_take_longer_than_thirty_seconds(late: int, verdict: str) -> None:
    done = [job(seconds=29)] * (100 - late) + [job(seconds=31)] * late
    assert criteria.jobs_in_time(done, [], NOW).verdict == verdict


def test_a_job_that_has_waited_too_long_is_late_already() -> None:
    waits = job(status="pending", finished_at=None, created_at=NOW - timedelta(seconds=31))
    deferred = job(status="pending", finished_at=None, run_at=NOW + timedelta(hours=1))
    assert criteria.jobs_in_time([job()], [deferred], NOW).verdict == "pass"
    assert criteria.jobs_in_time([job()], [waits], NOW).verdict == "fail"
    hangs = job(status="processing", finished_at=None, created_at=NOW - timedelta(seconds=31))
    assert criteria.jobs_in_time([job()], [hangs], NOW).verdict == "fail"


def test_no_jobs_are_no_proof() -> None:
    assert criteria.jobs_in_time([], [], NOW).verdict == "fail"


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(n) for n in range(1, 21)]
    assert (criteria.percentile(values, 0.5), criteria.percentile(values, 0.95)) == (10.0, 19.0)
    assert math.isnan(criteria.percentile([], 0.5))
