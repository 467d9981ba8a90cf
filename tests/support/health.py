"""The body of `GET /health` of a service in order."""

from __future__ import annotations

from typing import Any

from luma_memory.protocol.health import CacheHealthBody, FeaturesBody, HealthBody


def healthy(*, relations: bool = True, **fields: Any) -> HealthBody:
    """fields: others than those of a service with one worker, without a cache."""
    on = dict.fromkeys(("worker", "enrichment", "embedding", "synthesis", "weekly_summaries"), True)
    common: dict[str, Any] = {
        "status": "ok",
        "version": "1",
        "system_enabled": True,
        "worker_running": True,
        "workers": 1,
        "queue_stats": None,
        "oldest_pending_seconds": None,
        "database": "ok",
        "cache": CacheHealthBody(connected=True, hit_rate=None),
        "features": FeaturesBody(relations=relations, **on),
        "providers": {},
        "uptime_seconds": 1,
    }
    return HealthBody(**{**common, **fields})
