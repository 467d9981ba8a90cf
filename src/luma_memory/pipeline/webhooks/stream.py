"""Events as a stream, for programs that cannot be called."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from luma_memory.domain.access import Caller
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import Conflict, QuotaExceeded
from luma_memory.domain.webhook import Event, EventType
from luma_memory.ports.webhooks import EventStore

# Between two reads that found nothing.
POLL_SECONDS: Final = 0.5
# Sent also without events, so that proxies and clients see that the connection is alive.
HEARTBEAT_SECONDS: Final = 15.0
# Then clients continue with a new request: a revoked key ends its stream within this time.
STREAM_SECONDS_MAX: Final = 300
STREAMS_MAX: Final = 100
_READ_ROWS: Final = 200


class EventStream:
    """Streams of one process, at most `STREAMS_MAX` at once. Raises StoreUnavailable."""

    def __init__(self, store: EventStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._open = 0

    async def start(self, caller: Caller, *, after: int | None) -> int:
        """The position to begin at: `after`, or the end of the stream.

        Raises Conflict (code events_expired) if events after that position may be missing, and
        QuotaExceeded (code too_many_streams).
        """
        if self._open >= STREAMS_MAX:
            raise QuotaExceeded(
                "This process serves as many streams as it can",
                retry_after_seconds=10,
                code="too_many_streams",
            )
        gone_until = await self._store.subscribe(caller.project_id, self._clock.now())
        if after is None:
            return max(gone_until, await self._store.end())
        if after < gone_until:
            raise Conflict(
                "Events after this position are not kept any more: begin without one",
                code="events_expired",
            )
        return after

    async def read(
        self,
        caller: Caller,
        *,
        user_id: str | None,
        types: Sequence[EventType],
        after: int,
        seconds: float,
        wait: Callable[[float], Awaitable[bool]],
    ) -> AsyncGenerator[tuple[Sequence[Event], int]]:
        """Events in their order with the position reached, and heartbeats without events.

        user_id: None for all users of the caller's project. seconds: for how long; 0 ends after
        what there is now. wait: waits that many seconds; True
        ends the stream, because the process stops.
        """
        self._open += 1
        try:
            now = self._clock.monotonic()
            ends, beat = now + seconds, now + HEARTBEAT_SECONDS
            yield (), after
            while True:
                events, after = await self._store.events(
                    caller.project_id, user_id=user_id, types=types, after=after, limit=_READ_ROWS
                )
                now = self._clock.monotonic()
                if events or now >= beat:
                    yield events, after
                    beat = now + HEARTBEAT_SECONDS
                    await self._store.subscribe(caller.project_id, self._clock.now())
                if len(events) == _READ_ROWS:
                    continue
                if now >= ends or await wait(min(POLL_SECONDS, ends - now)):
                    return
        finally:
            self._open -= 1
