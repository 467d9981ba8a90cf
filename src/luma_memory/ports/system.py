"""State of the database as health checks read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from luma_memory.domain.partition import PartitionFault
from luma_memory.ports.circuits import CircuitFault


class SystemProbe(Protocol):
    """Database checks for health reports."""

    async def schema_is_current(self) -> bool:
        """Raises StoreUnavailable."""
        ...

    async def live_worker_count(self) -> int:
        """Workers seen lately that have not stopped. Raises StoreUnavailable."""
        ...

    def partition_faults(self) -> Sequence[PartitionFault]:
        """Partitions that did not respond to the last statement, or are paused."""
        ...

    def replica_is_used(self) -> bool | None:
        """Whether this process reads the replica; None without one."""
        ...

    async def provider_faults(self) -> Sequence[CircuitFault]:
        """Providers that are unavailable or refuse requests, by name. Raises StoreUnavailable."""
        ...
