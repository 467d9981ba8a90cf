# Generated from service.py in `asynchronous`; change it there, then `make format`.

"""The service itself: health, cost, cache."""

from __future__ import annotations

from datetime import date

from luma_memory.client.calls import read
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.protocol.context import CacheStatsBody
from luma_memory.protocol.health import HealthBody
from luma_memory.protocol.usage import UsageBody


class Service(Connection):
    """What operators look at."""

    def health(self) -> HealthBody:
        """The whole system at a glance; needs no key."""
        return parsed(HealthBody, self._send(read("/health")))

    def check_ready(self) -> None:
        """Whether requests can be served. Raises UnavailableError when they cannot."""
        self._send(read("/health/ready"))

    def usage(
        self, *, user_id: str | None = None, since: date | None = None, until: date | None = None
    ) -> UsageBody:
        """Calls, tokens and estimated cost by day, operation and model; of 30 days by default."""
        call = read("/usage", user_id=user_id, since=since, until=until)
        return parsed(UsageBody, self._send(call))

    def cache_stats(self) -> CacheStatsBody:
        """How the context cache is, and how often it had the answer."""
        return parsed(CacheStatsBody, self._send(read("/cache/stats")))

    def metrics(self) -> str:
        """In Prometheus' text format; needs the permission `admin`."""
        return (self._send(read("/metrics"))).decode()
