"""The service itself: health, usage, cache, metrics."""

from __future__ import annotations

from datetime import date, datetime

from luma_memory.client.asynchronous.connection import Connection
from luma_memory.client.calls import read
from luma_memory.client.responses import parsed
from luma_memory.domain.history import Resolution
from luma_memory.protocol.context import CacheStatsBody
from luma_memory.protocol.health import HealthBody
from luma_memory.protocol.history import HistoryBody
from luma_memory.protocol.providers import ProviderBody, ProviderListBody
from luma_memory.protocol.settings import SettingBody, SettingListBody
from luma_memory.protocol.usage import UsageBody


class Service(Connection):
    """Information for operators."""

    async def health(self) -> HealthBody:
        """State of the whole system; needs no key."""
        return parsed(HealthBody, await self._send(read("/health")))

    async def check_ready(self) -> None:
        """Raises UnavailableError if the service cannot serve requests."""
        await self._send(read("/health/ready"))

    async def usage(
        self, *, user_id: str | None = None, since: date | None = None, until: date | None = None
    ) -> UsageBody:
        """Calls, tokens and estimated cost by day, operation and model; 30 days by default."""
        call = read("/usage", user_id=user_id, since=since, until=until)
        return parsed(UsageBody, await self._send(call))

    async def cache_stats(self) -> CacheStatsBody:
        """State and hit rate of the context cache."""
        return parsed(CacheStatsBody, await self._send(read("/cache/stats")))

    async def providers(self) -> list[ProviderBody]:
        """Model providers called over a network: their state and last failure."""
        return parsed(ProviderListBody, await self._send(read("/providers"))).providers

    async def settings(self) -> list[SettingBody]:
        """Every setting with its value, without secrets; requires the permission `admin`."""
        return parsed(SettingListBody, await self._send(read("/settings"))).settings

    async def metrics_history(
        self,
        *,
        resolution: Resolution | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> HistoryBody:
        """Numbers of all processes by minute (24 hours) or by hour (30 days)."""
        call = read("/metrics/history", resolution=resolution, since=since, until=until)
        return parsed(HistoryBody, await self._send(call))

    async def metrics(self) -> str:
        """Metrics in Prometheus' text format; requires the permission `admin`."""
        return (await self._send(read("/metrics"))).decode()
