"""The interface through which every queue is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class MeasuredQueue(Protocol):
    """One queue in a database of its own. Jobs carry nothing and do nothing.

    claim_max: how many jobs its claim can take at once.
    """

    name: str
    claim_max: int

    async def open(self, dsn: str) -> None:
        """Connect, and make the queue's tables in the empty database as its makers advise."""
        ...

    async def close(self) -> None: ...

    async def clear(self) -> None:
        """No jobs, and tables as new."""
        ...

    async def enqueue(self, count: int) -> None:
        """So many jobs in one call, by the queue's own way for many; one by its way for one.

        Returns when they are committed; workers are notified by then or immediately afterwards.
        """
        ...

    async def fill(self, *, pending: int, completed: int) -> None:
        """So many jobs more, as the queue itself would have left them, written by plain SQL."""
        ...

    async def claim(self, limit: int) -> Sequence[Any]:
        """The claim as the queue's own worker issues it: up to `limit` jobs."""
        ...

    async def complete(self, claimed: Sequence[Any]) -> None:
        """End claimed jobs as the queue's own worker does."""
        ...

    async def open_jobs(self) -> int:
        """Jobs that have not ended."""
        ...
