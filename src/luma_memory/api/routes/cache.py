"""The context cache, for operators."""

from __future__ import annotations

from fastapi import APIRouter

from luma_memory.api.problems import RESPONSES
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.protocol.context import CacheStatsBody
from luma_memory.protocol.mapping import memory_size

router = APIRouter(prefix="/cache", tags=["health"], route_class=ProtectedRoute)


@router.get("/stats", responses=RESPONSES, **permission("read"))
async def cache_stats(service: ServiceDep, caller: CallerDep) -> CacheStatsBody:
    """State and hit rate of the cache; also available while the cache is not."""
    caller.check_sees_installation()
    report = await service.insights.cache()
    facts, counts = report.facts, report.counts
    return CacheStatsBody(
        connected=facts.connected,
        keys_count=facts.keys_count,
        memory_used=(
            None if facts.memory_used_bytes is None else memory_size(facts.memory_used_bytes)
        ),
        memory_used_bytes=facts.memory_used_bytes,
        backend=facts.backend,
        hits=counts and counts.hits,
        misses=counts and counts.misses,
        hit_rate=report.hit_rate,
    )
