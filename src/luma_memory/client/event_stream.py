"""Parses server-sent events."""

from __future__ import annotations

from luma_memory.domain.errors import UnavailableError
from luma_memory.protocol.webhooks import StreamedEventBody

# An event has ids alone; what is longer is no stream of this service.
_PENDING_BYTES_MAX = 1_000_000


class EventLines:
    """Chunks of a stream in, events out. position: what to continue after; None: not known yet."""

    def __init__(self, position: int | None) -> None:
        self.position = position
        self._rest = b""

    def take(self, piece: bytes) -> list[StreamedEventBody]:
        """The events that this chunk completes.

        Raises UnavailableError (code stream_invalid) for what is no stream of events.
        """
        *messages, self._rest = (self._rest + piece).split(b"\n\n")
        if len(self._rest) > _PENDING_BYTES_MAX:
            raise _invalid()
        return [event for message in messages if (event := self._event(message)) is not None]

    def _event(self, message: bytes) -> StreamedEventBody | None:
        fields = {
            name: value.removeprefix(b" ")
            for name, _, value in (line.partition(b":") for line in message.split(b"\n"))
        }
        try:
            if b"id" in fields:
                self.position = int(fields[b"id"])
            if b"data" not in fields:
                return None
            return StreamedEventBody.model_validate_json(fields[b"data"])
        except ValueError:
            raise _invalid() from None


def _invalid() -> UnavailableError:
    return UnavailableError("The response is no stream of events", code="stream_invalid")
