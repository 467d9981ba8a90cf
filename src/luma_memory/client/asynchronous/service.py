"""The service itself: health, cost, cache."""

from __future__ import annotations

from datetime import date

from luma_memory.client.asynchronous.connection import Connection
from luma_memory.client.calls import read
from luma_memory.client.responses import parsed
from luma_memory.protocol.context import CacheStatsBody
from luma_memory.protocol.health import HealthBody
from luma_memory.protocol.usage import UsageBody


class Service(Connection):
    """What operators look at."""

    async def health(self) -> HealthBody:
        """The whole system at a glance; needs no key."""
        return parsed(HealthBody, await self._send(read("/health")))

    async def check_ready(self) -> None:
        """Whether requests can be served. Raises UnavailableError when they cannot."""
        await self._send(read("/health/ready"))

    async def usage(
        self, *, user_id: str | None = None, since: date | None = None, until: date | None = None
    ) -> UsageBody:
        """Calls, tokens and estimated cost by day, operation and model; of 30 days by default."""
        call = read("/usage", user_id=user_id, since=since, until=until)
        return parsed(UsageBody, await self._send(call))

    async def cache_stats(self) -> CacheStatsBody:
        """How the context cache is, and how often it had the answer."""
        return parsed(CacheStatsBody, await self._send(read("/cache/stats")))

    async def metrics(self) -> str:
        """In Prometheus' text format; needs the permission `admin`."""
        return (await self._send(read("/metrics"))).decode()
