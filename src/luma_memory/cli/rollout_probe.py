"""Measurements for the rollout criteria, through the HTTP API of a running service."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from luma_memory.cli import rollout_criteria as criteria
from luma_memory.cli.rollout_criteria import Criterion, Limits
from luma_memory.cli.service import ServiceClient
from luma_memory.domain.job import OPEN, JobStatus, JobType
from luma_memory.protocol.health import HealthBody
from luma_memory.protocol.jobs import JobBody

BLOCKS = 20
REPEATED_QUESTIONS = 10
DAY = timedelta(hours=24)
JOBS_READ_MAX = 1_000
JOBS_PAGE_MAX = 200
_POLL_SECONDS = 0.2
_TEXTS = (
    "Ada moved to Lisbon and lives two minutes from the river.",
    "Grace plays the cello in an orchestra every Thursday.",
    "Linus repaired the red bicycle and sold the blue one.",
    "The meeting about the harbor was moved to Monday morning.",
)


async def check_phase(
    phase: int, url: str, api_key: SecretStr | None, limits: Limits
) -> list[Criterion]:
    """The judged criteria of a phase and of the earlier ones.

    Raises UnavailableError or SetupError when the service cannot be reached.
    """
    async with ServiceClient(url, api_key=api_key) as client:
        health = await client.health()
        found = [criteria.service_on(health)]
        if found[0].verdict == "fail":
            # Nothing could be stored or queried.
            return [*found, criteria.worker_running(health)]
        async with _probe_user(client) as user_id:
            ingested = await _ingest(client, user_id, limits)
            # After the ingest, so that a worker that was just started has had time to register.
            found += [criteria.worker_running(await client.health()), *ingested]
            # Measured before caching, because a new relation invalidates cached contexts.
            related = await _relations(client, user_id, health, limits) if phase >= 3 else []
            if phase >= 2:
                found += await _caching(client, user_id, limits)
            found += related
            if phase >= 4:  # while the probe's own jobs exist
                found += await _production(client)
    return found


@asynccontextmanager
async def _probe_user(client: ServiceClient) -> AsyncIterator[str]:
    await client.may_erase()  # otherwise the probe's data could not be removed
    user_id = f"rollout-check-{secrets.token_hex(6)}"
    try:
        yield user_id
    finally:
        await asyncio.shield(client.erase_user(user_id))


async def _ingest(client: ServiceClient, user_id: str, limits: Limits) -> list[Criterion]:
    statuses: list[str] = []
    latencies: list[float] = []
    for number in range(BLOCKS):
        block = {"user_id": user_id, "content": f"{_TEXTS[number % len(_TEXTS)]} ({number})"}
        started = time.perf_counter()
        accepted = await client.accept(block)
        latencies.append((time.perf_counter() - started) * 1_000)
        statuses.append(accepted.status)
    seconds, counts = await _until_enriched(client, user_id, limits)
    since = datetime.now(UTC) - DAY
    completed = await _jobs(client, "completed", since=since)
    failed = await _jobs(client, "failed", since=since)
    # If a list is cut off, compare both over the period that both cover.
    common = max(_oldest(completed, since), _oldest(failed, since))
    return [
        criteria.accepted_at_once(statuses),
        criteria.accept_latency(latencies, limits),
        criteria.enriched_in_time(seconds, counts, limits),
        criteria.failure_rate(
            [job for job in completed if job.created_at >= common],
            [job for job in failed if job.created_at >= common],
        ),
    ]


async def _until_enriched(
    client: ServiceClient, user_id: str, limits: Limits
) -> tuple[float | None, Counter[str]]:
    """Seconds until all blocks of the probe were active, or None; and their counts by status.

    A block that the fallback enriched does not count as active.
    """
    started = time.monotonic()
    while True:
        page = await client.list_blocks(user_id, limit=BLOCKS)
        counts = Counter(
            "fallback" if block.enrichment == "fallback" else str(block.status)
            for block in page.blocks
        )
        seconds = time.monotonic() - started
        if counts["active"] == BLOCKS:
            return seconds, counts
        if seconds > limits.enriched_seconds or not counts["pending_enrichment"]:
            return None, counts
        await asyncio.sleep(_POLL_SECONDS)


async def _caching(client: ServiceClient, user_id: str, limits: Limits) -> list[Criterion]:
    """The first context is computed, the repeated ones must come from the cache."""
    body = {"user_id": user_id, "query": "Where does Ada live?", "synthesize": False}
    hits: list[float] = []
    cache = await client.cache_stats()
    await client.ask_context(body, is_probe=True)
    for _ in range(REPEATED_QUESTIONS):
        started = time.perf_counter()
        response = await client.ask_context(body, is_probe=True)
        if response.cached:
            hits.append((time.perf_counter() - started) * 1_000)
    return [
        criteria.cache_connected(cache),
        criteria.hits_served(hits, REPEATED_QUESTIONS, limits),
        criteria.hit_rate(cache, limits),
    ]


async def _relations(
    client: ServiceClient, user_id: str, health: HealthBody, limits: Limits
) -> list[Criterion]:
    """Waits until the detection of each probe block has ended or was deferred."""
    started = time.monotonic()
    while True:
        now = datetime.now(UTC)
        page = await client.list_jobs(
            job_type="detect_relations", user_id=user_id, limit=JOBS_PAGE_MAX
        )
        settled = sum(_is_settled(job, now) for job in page.jobs)
        if settled == BLOCKS or not health.features.relations:
            break
        if time.monotonic() - started > limits.enriched_seconds:
            break
        await asyncio.sleep(_POLL_SECONDS)
    return [
        criteria.relations_on(health, page.jobs),
        criteria.rate_limited(page.jobs, limits, now),
    ]


def _is_settled(job: JobBody, now: datetime) -> bool:
    return job.status not in OPEN or (job.status == "pending" and job.run_at > now)


async def _production(client: ServiceClient) -> list[Criterion]:
    now = datetime.now(UTC)
    completed = await _jobs(client, "completed", since=now - DAY, job_type="enrich_and_embed")
    unfinished = [
        job
        for status in OPEN
        for job in await _jobs(client, status, since=now - DAY, job_type="enrich_and_embed")
    ]
    return [
        criteria.pending(await client.job_stats()),
        criteria.jobs_in_time(completed, unfinished, now),
    ]


async def _jobs(
    client: ServiceClient,
    status: JobStatus | None,
    *,
    since: datetime,
    job_type: JobType | None = None,
) -> Sequence[JobBody]:
    """The newest jobs, at most JOBS_READ_MAX."""
    jobs: list[JobBody] = []
    cursor: str | None = None
    while len(jobs) < JOBS_READ_MAX:
        page = await client.list_jobs(
            status=status,
            job_type=job_type,
            created_after=since,
            limit=JOBS_PAGE_MAX,
            cursor=cursor,
        )
        jobs += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            break
    return jobs[:JOBS_READ_MAX]


def _oldest(jobs: Sequence[JobBody], since: datetime) -> datetime:
    return min(job.created_at for job in jobs) if len(jobs) == JOBS_READ_MAX else since
