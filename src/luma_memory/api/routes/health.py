"""Health: for operators, load balancers and process supervisors."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from luma_memory import __version__
from luma_memory.api.services import ServiceDep
from luma_memory.ports.vector_models import ReembedState
from luma_memory.protocol.health import (
    CacheHealthBody,
    FeaturesBody,
    HealthBody,
    PartitionFaultBody,
    ProviderFaultBody,
    QueueStatsBody,
    ReadyBody,
    ReembeddingBody,
)
from luma_memory.settings import Settings

router = APIRouter(prefix="/health", tags=["health"])


@router.get("")
async def health(service: ServiceDep) -> HealthBody:
    """State of the whole system; also available while parts of it are not."""
    report = await service.insights.health()
    stats = report.stats
    return HealthBody(
        status=report.status,
        version=__version__,
        system_enabled=report.system_enabled,
        worker_running=bool(report.workers),
        workers=report.workers or 0,
        queue_stats=stats
        and QueueStatsBody(
            pending=stats.pending,
            processing=stats.processing,
            completed=stats.completed,
            failed=stats.failed,
        ),
        paused=list(stats.paused) if stats else [],
        oldest_pending_seconds=stats.oldest_pending_seconds if stats else None,
        database=report.database,
        cache=CacheHealthBody(
            connected=report.cache.facts.connected, hit_rate=report.cache.hit_rate
        ),
        features=_features(service.settings),
        providers=dict(service.provider_names),
        provider_faults=[
            ProviderFaultBody(
                provider=fault.name.partition(" @")[0],
                state=fault.state,
                since=fault.since,
                code=fault.code,
            )
            for fault in report.provider_faults
        ],
        partition_faults=[
            PartitionFaultBody(partition=fault.number, state=fault.state, reason=fault.reason)
            for fault in report.partition_faults
        ],
        read_replica=_replica(report.replica_is_used),
        reembedding=_reembedding(report.reembedding),
        uptime_seconds=report.uptime_seconds,
    )


def _replica(is_used: bool | None) -> Literal["used", "unused"] | None:
    if is_used is None:
        return None
    return "used" if is_used else "unused"


def _reembedding(state: ReembedState | None) -> ReembeddingBody | None:
    if state is None:
        return None
    if state.progress is None:
        return ReembeddingBody(model=state.model_id, done=None, total=None)
    # A vector that is ready for an edited block counts besides the one the edit will make.
    done = min(state.progress.done, state.progress.total)
    return ReembeddingBody(model=state.model_id, done=done, total=state.progress.total)


def _features(settings: Settings) -> FeaturesBody:
    return FeaturesBody(
        worker=settings.worker_enabled,
        enrichment=settings.enrichment_enabled,
        embedding=settings.embedding_enabled,
        relations=settings.relations_enabled,
        synthesis=settings.synthesis_enabled,
        weekly_summaries=settings.weekly_summaries_enabled,
    )


@router.get("/live")
async def live() -> dict[str, bool]:
    """Whether this process responds. Checks nothing else."""
    return {"live": True}


@router.get(
    "/ready",
    responses={
        200: {"model": ReadyBody, "description": "Requests can be served."},
        503: {"model": ReadyBody, "description": "Not ready."},
    },
)
async def ready(service: ServiceDep) -> Response:
    """Whether requests can be served; names what is missing."""
    missing = await service.insights.missing()
    body = ReadyBody(ready=not missing, missing=missing)
    return Response(body.model_dump_json(), 503 if missing else 200, media_type="application/json")
