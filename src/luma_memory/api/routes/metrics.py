"""Prometheus metrics: the counters of the processes on this port, and the whole installation's
state from the database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.bootstrap.service import Service
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.history import Resolution
from luma_memory.domain.usage import UsageFilter
from luma_memory.protocol.history import HistoryBody
from luma_memory.protocol.validation import Instant
from luma_memory.telemetry.metrics import ScrapedGauge, oldest_pending

ResultT = TypeVar("ResultT")
# A scrape that times out leaves a gap in every graph.
READ_SECONDS_MAX = 2.0

router = APIRouter(prefix="/metrics", tags=["health"], route_class=ProtectedRoute)


@router.get(
    "",
    responses={
        **RESPONSES,
        200: {
            "description": "Metrics in the Prometheus text format",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    },
    response_class=Response,
    **permission("admin"),
)
async def metrics(service: ServiceDep, caller: CallerDep) -> Response:
    """Metrics in Prometheus' text format, without the database's while it is unavailable."""
    caller.check_sees_installation()
    registry = CollectorRegistry()
    await asyncio.gather(
        _in_time(_queue(service, registry)),
        _in_time(_providers(service, registry)),
        _in_time(_reembedding(service, registry)),
    )
    body = generate_latest(service.metrics.reported) + generate_latest(registry)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


@router.get("/history", responses=RESPONSES, **permission("read"))
async def metrics_history(
    service: ServiceDep,
    caller: CallerDep,
    resolution: Annotated[
        Resolution, Query(description="minute: of the last 24 hours; hour: of the last 30 days.")
    ] = "minute",
    since: Instant | None = None,
    until: Instant | None = None,
) -> HistoryBody:
    """Rates, latencies and states of all processes over time, for charts.

    The service keeps them itself, in a bounded number of rows. Counts arrive within ten seconds.
    """
    caller.check_sees_installation()
    return HistoryBody.of(await service.history.read(resolution, since=since, until=until))


async def _queue(service: Service, registry: CollectorRegistry) -> None:
    health = await service.insights.health()
    up = ScrapedGauge(registry, "luma_database_up", "1 while PostgreSQL is available.")
    up.set(health.database == "ok")
    connected = ScrapedGauge(
        registry, "luma_cache_connected", "1 while this process reaches the cache."
    )
    connected.set(health.cache.facts.connected)
    rate = ScrapedGauge(registry, "luma_cache_hit_rate", "Last 24 hours, all API processes.")
    rate.set(math.nan if health.cache.hit_rate is None else health.cache.hit_rate)
    if health.workers is not None:
        ScrapedGauge(registry, "luma_workers", "Live workers.").set(health.workers)
    if (stats := health.stats) is None:
        return
    jobs = ScrapedGauge(registry, "luma_jobs", "Jobs by status.", "status")
    jobs.set(stats.pending, "pending")
    jobs.set(stats.deferred, "deferred")
    jobs.set(stats.processing, "processing")
    jobs.set(stats.failed, "failed")
    completed = "Jobs completed since installation."
    ScrapedGauge(registry, "luma_jobs_completed", completed).set(stats.completed)
    oldest_pending(registry, stats.oldest_pending_seconds)


async def _providers(service: Service, registry: CollectorRegistry) -> None:
    opened = ScrapedGauge(
        registry, "luma_provider_circuit_open", "1 while calls are suspended.", "circuit"
    )
    for name, state in (await service.circuits.states()).items():
        opened.set(state != "closed", name)
    pending = await service.backfill.pending_counts(project_id=None, user_id=None)
    blocks = ScrapedGauge(registry, "luma_blocks_owed", "Active blocks pending backfill.", "when")
    blocks.set(pending.due, "due")
    blocks.set(pending.later, "later")
    blocks.set(pending.asked, "asked")
    today = service.clock.now().date()
    which = UsageFilter(project_id=None, since=today, until=today)
    report = await service.usage.report(which)
    calls = ScrapedGauge(
        registry, "luma_provider_calls_today", "Calls (UTC day).", "operation", "model"
    )
    tokens = ScrapedGauge(registry, "luma_provider_tokens_today", "Tokens.", "operation", "model")
    cost = ScrapedGauge(
        registry, "luma_provider_cost_usd_today", "Estimated.", "operation", "model"
    )
    for line in report.lines:
        labels = (line.key.operation, line.key.model)
        calls.set(line.spent.calls, *labels)
        tokens.set(line.spent.tokens, *labels)
        cost.set(float(line.spent.cost_usd), *labels)


async def _reembedding(service: Service, registry: CollectorRegistry) -> None:
    passages = ScrapedGauge(
        registry, "luma_reembed_passages", "While the embedding model changes.", "state"
    )
    state = await service.reembed_watch.state()
    if state is not None and state.progress is not None:
        passages.set(state.progress.done, "done")
        passages.set(state.progress.total, "total")


async def _in_time(part: Awaitable[None]) -> None:
    """Wait for one part; on a failure or timeout the page is complete without it."""
    try:
        async with asyncio.timeout(READ_SECONDS_MAX):
            await part
    except (LumaMemoryError, TimeoutError):
        return
