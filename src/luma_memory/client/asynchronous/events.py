"""The stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from luma_memory.client.asynchronous.connection import Connection
from luma_memory.client.calls import read
from luma_memory.client.event_stream import EventLines
from luma_memory.client.retries import Attempts
from luma_memory.domain.errors import UnavailableError
from luma_memory.domain.webhook import EventType
from luma_memory.protocol.webhooks import StreamedEventBody

# Longer than the pause between two heartbeats of the service.
_SILENCE_SECONDS = 60.0
# Between the end of a stream and the next request: the service's own `retry`.
_RECONNECT_SECONDS = 1.0


class Events(Connection):
    """Events of the key's project, or of its user."""

    async def iterate_events(
        self,
        *,
        after: int | None = None,
        user_id: str | None = None,
        event_types: Sequence[EventType] = (),
        follow: bool = True,
    ) -> AsyncIterator[StreamedEventBody]:
        """Events as they happen, without end.

        after: the `position` of the last event that was handled, to continue there; None begins
        with what happens from now on. A connection that ends is opened again where it stopped, so
        that no event is missed or repeated; an outage longer than the client's retries raises
        UnavailableError. Raises Conflict (code events_expired) if events after that position are
        not kept any more. follow: False ends with the last event there is now.
        """
        lines, attempts = EventLines(after), Attempts(self._retries)
        while True:
            call = read(
                "/events",
                after=lines.position,
                user_id=user_id,
                type=tuple(event_types),
                wait_seconds=None if follow else 0,
            )
            call = replace(call, timeout_seconds=_SILENCE_SECONDS)
            lines = EventLines(lines.position)
            try:
                async with self._opened(call, streamed=True) as response:
                    async for piece in response.aiter_bytes():
                        attempts = Attempts(self._retries)
                        for event in lines.take(piece):
                            yield event
                if not follow:
                    return
                # A process that stops ends each new stream at once.
                await asyncio.sleep(_RECONNECT_SECONDS)
            except UnavailableError as error:
                pause_seconds = attempts.pause_after(error, call)
                if pause_seconds is None:
                    raise
                await asyncio.sleep(pause_seconds)

    async def event_position(self) -> int:
        """The position where the stream ends now: `after` for what happens from now on.

        From this call on, the project's events are recorded.
        """
        lines = EventLines(None)
        lines.take(await self._send(read("/events", wait_seconds=0)))
        return lines.position or 0
