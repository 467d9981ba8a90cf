"""State of the database as health checks read it."""

from __future__ import annotations

from typing import Protocol


class SystemProbe(Protocol):
    """What health asks of the database."""

    async def schema_is_current(self) -> bool:
        """Raises StoreUnavailable."""
        ...

    async def live_worker_count(self) -> int:
        """Workers seen lately that have not stopped. Raises StoreUnavailable."""
        ...
