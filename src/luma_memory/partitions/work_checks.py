"""Which partitions have work: one cheap statement for all partitions of a server.

A worker with nothing to do checks once per poll interval, however many partitions there are.
Claims, rescues and reconciliation go to those partitions only that have something.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from luma_memory.concurrency.deadline import within
from luma_memory.domain.errors import LumaMemoryError, StoreUnavailable
from luma_memory.partitions.places import Place, Places
from luma_memory.postgres.database import Database
from luma_memory.store.partitions import PartitionWork, partition_work

# A check is as old as this at most when nothing is known to be due.
FRESH_SECONDS: Final = 0.1
# A server that does not respond within this time is left out of the check.
_CHECK_SECONDS: Final = 2.0


class WorkChecks:
    """Shared by the parts of a worker. poll_seconds: how old a check may get while jobs run."""

    def __init__(self, places: Places, *, poll_seconds: float) -> None:
        self._places = places
        self._poll_seconds = poll_seconds
        self._at = float("-inf")
        self._work: dict[int, PartitionWork] = {}
        self._checking: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[Sequence[int]], None]] = []

    @property
    def busy(self) -> Sequence[int]:
        """Partitions in which jobs were being processed at the last check."""
        return [number for number, work in self._work.items() if work.is_busy]

    @property
    def with_webhooks(self) -> Sequence[int]:
        """Partitions that had webhooks at the last check."""
        return [number for number, work in self._work.items() if work.has_webhooks]

    def subscribe(self, listener: Callable[[Sequence[int]], None]) -> None:
        """Call `listener` with the partitions that have due jobs, after each check."""
        self._listeners.append(listener)

    def expire(self) -> None:
        """The next `fresh` checks."""
        self._at = float("-inf")

    async def fresh(self, *, is_idle: bool) -> None:
        """Check unless the last one is recent. Raises StoreUnavailable if no server responds."""
        age = time.monotonic() - self._at
        if age < (FRESH_SECONDS if is_idle else self._poll_seconds):
            return
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check(), name="partition-check")
        await asyncio.shield(self._checking)

    async def _check(self) -> None:
        self._at = time.monotonic()
        outcomes = await asyncio.gather(
            *(self._check_server(*each) for each in await self._checked_together())
        )
        if not any(outcomes):
            raise StoreUnavailable("No partition responds")
        due = [number for number, work in self._work.items() if work.is_due]
        for listener in self._listeners:
            listener(due)

    async def _checked_together(self) -> Sequence[tuple[Database, Sequence[Place]]]:
        """The partitions of each server; at a Citus coordinator each alone, as a node of it may be
        away, and no statement works on tables of several nodes."""
        together: list[tuple[Database, Sequence[Place]]] = []
        for server, places in self._places.servers():
            try:
                is_coordinator = await server.coordinates_nodes()
            except LumaMemoryError:  # the check finds out as well
                is_coordinator = False
            together += (
                [(server, [one]) for one in places] if is_coordinator else [(server, places)]
            )
        return together

    async def _check_server(self, server: Database, places: Sequence[Place]) -> bool:
        tried = [place for place in places if not place.is_paused]
        found: Mapping[int, PartitionWork] = {}
        try:
            places[0].check()
        except StoreUnavailable:  # nothing was tried, so there is nothing to note
            self._forget(places)
            return False
        try:
            found = await within(
                partition_work(server, [(one.number, one.database.schema) for one in tried]),
                _CHECK_SECONDS,
            )
        except TimeoutError:
            places[0].note(StoreUnavailable("PostgreSQL does not respond in time"))
        except LumaMemoryError as error:
            places[0].note(error)
        else:
            for place in tried:
                place.note(None)
        self._forget(places)
        self._work |= found
        return bool(found) or not tried

    def _forget(self, places: Sequence[Place]) -> None:
        for place in places:
            self._work.pop(place.number, None)
