"""The stream of events: server-sent events, resumable by position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from luma_memory.api.problems import RESPONSES, problem_document
from luma_memory.api.routing import CallerDep, ProtectedRoute, permission
from luma_memory.api.services import ServiceDep
from luma_memory.domain.errors import Invalid, StoreUnavailable
from luma_memory.domain.job import JOB_ID_MAX
from luma_memory.domain.webhook import Event, EventType
from luma_memory.pipeline.webhooks.stream import STREAM_SECONDS_MAX
from luma_memory.protocol.validation import Name
from luma_memory.protocol.webhooks import StreamedEventBody

EVENTS = "text/event-stream"
EVENTS_PATH_END = "/events"
# When a connection breaks, browsers wait that long before they continue.
_RECONNECT_MS = 1_000

router = APIRouter(prefix=EVENTS_PATH_END, tags=["webhooks"], route_class=ProtectedRoute)
_STREAM = {
    **RESPONSES,
    200: {
        "description": "Events as they happen, each with its position as `id`.",
        "content": {EVENTS: {"schema": {"type": "string"}}},
    },
    409: problem_document("Events after that position are not kept any more."),
}
Position = Annotated[int | None, Query(ge=0, le=JOB_ID_MAX)]


@router.get("", responses=_STREAM, response_class=StreamingResponse, **permission("read"))
async def stream_events(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    after: Position = None,
    user_id: Name | None = None,
    event_type: Annotated[
        list[EventType] | None, Query(alias="type", description="Only these types.")
    ] = None,
    wait_seconds: Annotated[
        int,
        Query(ge=0, le=STREAM_SECONDS_MAX, description="0 ends with the last event there is."),
    ] = STREAM_SECONDS_MAX,
    last_event_id: Annotated[
        str | None, Header(description="Continues after this position; wins over `after`.")
    ] = None,
) -> StreamingResponse:
    """Events from `after` on, or from now on: `block.active`, `block.superseded` and the others.

    With a key for one user, the events of this user. A stream ends after `wait_seconds`: continue
    with the last `id`. Comments in between show that the connection is alive.
    """
    user = caller.narrowed(user_id)
    position = await service.events.start(caller, after=_position(last_event_id, after))
    stopping: asyncio.Event = request.app.state.stopping
    pages = service.events.read(
        caller,
        user_id=user,
        types=event_type or (),
        after=position,
        seconds=wait_seconds,
        wait=_waiter(stopping),
    )
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(pages), media_type=EVENTS, headers=headers)


def _position(last_event_id: str | None, after: int | None) -> int | None:
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 20):
        raise Invalid("Last-Event-ID is not a position of this stream", code="position_invalid")
    return int(last_event_id)


def _waiter(stopping: asyncio.Event) -> Callable[[float], Awaitable[bool]]:
    async def wait(seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stopping.wait()
        return stopping.is_set()

    return wait


async def _lines(pages: AsyncGenerator[tuple[Sequence[Event], int]]) -> AsyncIterator[bytes]:
    async with aclosing(pages):
        yield f"retry: {_RECONNECT_MS}\n\n".encode()
        try:
            async for events, position in pages:
                yield (
                    b"".join(_event(event) for event in events) + f"id: {position}\n:\n\n".encode()
                )
        except StoreUnavailable:
            return  # the client continues when the database is back


def _event(event: Event) -> bytes:
    data = StreamedEventBody.of(event).model_dump_json()
    return f"id: {event.position}\nevent: {event.type}\ndata: {data}\n\n".encode()
