"""Prometheus metrics: this process's counters, and the whole installation's from the database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.bootstrap.service import Service
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.usage import UsageFilter
from luma_memory.telemetry.metrics import gauge, oldest_pending

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
    )
    body = generate_latest(service.metrics.registry) + generate_latest(registry)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def _queue(service: Service, registry: CollectorRegistry) -> None:
    health = await service.insights.health()
    up = gauge(registry, "luma_database_up", "1 while PostgreSQL is available.")
    up.set(health.database == "ok")
    connected = gauge(registry, "luma_cache_connected", "1 while this process reaches the cache.")
    connected.set(health.cache.facts.connected)
    rate = gauge(registry, "luma_cache_hit_rate", "Last 24 hours, all API processes.")
    rate.set(math.nan if health.cache.hit_rate is None else health.cache.hit_rate)
    if health.workers is not None:
        gauge(registry, "luma_workers", "Live workers.").set(health.workers)
    if (stats := health.stats) is None:
        return
    jobs = gauge(registry, "luma_jobs", "Jobs by status.", "status")
    jobs.labels("pending").set(stats.pending)
    jobs.labels("deferred").set(stats.deferred)
    jobs.labels("processing").set(stats.processing)
    jobs.labels("failed").set(stats.failed)
    completed = "Jobs completed since installation."
    gauge(registry, "luma_jobs_completed", completed).set(stats.completed)
    oldest_pending(registry, stats.oldest_pending_seconds)


async def _providers(service: Service, registry: CollectorRegistry) -> None:
    opened = gauge(
        registry, "luma_provider_circuit_open", "1 while calls are suspended.", "circuit"
    )
    for name, state in (await service.circuits.states()).items():
        opened.labels(name).set(state != "closed")
    pending = await service.backfill.pending_counts(project_id=None, user_id=None)
    blocks = gauge(registry, "luma_blocks_owed", "Active blocks pending backfill.", "when")
    blocks.labels("due").set(pending.due)
    blocks.labels("later").set(pending.later)
    blocks.labels("asked").set(pending.asked)
    today = service.clock.now().date()
    which = UsageFilter(project_id=None, since=today, until=today)
    report = await service.usage.report(which)
    calls = gauge(registry, "luma_provider_calls_today", "Calls (UTC day).", "operation", "model")
    tokens = gauge(registry, "luma_provider_tokens_today", "Tokens.", "operation", "model")
    cost = gauge(registry, "luma_provider_cost_usd_today", "Estimated.", "operation", "model")
    for line in report.lines:
        labels = (line.key.operation, line.key.model)
        calls.labels(*labels).set(line.spent.calls)
        tokens.labels(*labels).set(line.spent.tokens)
        cost.labels(*labels).set(float(line.spent.cost_usd))


async def _in_time(part: Awaitable[None]) -> None:
    """Wait for one part; on a failure or timeout the page is complete without it."""
    try:
        async with asyncio.timeout(READ_SECONDS_MAX):
            await part
    except (LumaMemoryError, TimeoutError):
        return
