"""Events as they are emitted, and a way to wait for them instead of sleeping."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from luma_memory.telemetry.events import Event

EventT = TypeVar("EventT", bound=Event)


class EventLog:
    """A telemetry.events.Emit that keeps everything."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._arrived = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._arrived.set()

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Those of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(
        self, kind: type[EventT], *, count: int = 1, timeout_seconds: float = 60.0
    ) -> list[EventT]:
        """All of one kind once there are `count`. Raises TimeoutError naming what came instead."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while len(found := self.of(kind)) < count:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise TimeoutError(f"no {count} {kind.__name__} in {self.events}") from None
        return found
