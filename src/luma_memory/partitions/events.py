"""The stream of events of all partitions in one order.

Positions come from the home partition, given to committed events of every partition by one process
at a time. So a reader that has seen a position has seen all before it. If it continued, it would
skip the events of a partition that does not respond: a stream over all users stops meanwhile. One
of a user continues, unless it is their partition.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

from luma_memory.domain.partition import HOME
from luma_memory.domain.scope import Scope
from luma_memory.domain.webhook import Event
from luma_memory.partitions.router import Routed
from luma_memory.store.events import PLACE_ROWS, PostgresEventStore

_BATCHES_MAX: Final = 100


async def subscribe(routed: Routed[PostgresEventStore], project_id: str, now: datetime) -> int:
    return max(await routed.all(lambda store: store.subscribe(project_id, now), writes=True))


async def end(routed: Routed[PostgresEventStore]) -> int:
    return await _placed(routed, range(routed.places.count))


async def events(
    routed: Routed[PostgresEventStore],
    project_id: str,
    *,
    user_id: str | None,
    types: Sequence[str],
    after: int,
    limit: int,
) -> tuple[Sequence[Event], int]:
    async def read(numbers: Iterable[int]) -> tuple[Sequence[Event], int]:
        chosen = list(numbers)
        last = await _placed(routed, chosen)
        pages = [
            await routed.at(
                number,
                lambda store: store.read(
                    project_id, user_id=user_id, types=types, after=after, limit=limit
                ),
            )
            for number in chosen
        ]
        merged = heapq.merge(*(found for found, _ in pages), key=lambda event: event.position)
        # Later ones are read again: of some partitions they may not all have been there. Those of a
        # user who was moved between two of the reads are there twice.
        known = {event.position: event for event in merged if event.position <= last}
        shown = list(islice(known.values(), limit))
        return shown, shown[-1].position if len(shown) == limit else max(after, last)

    if user_id is not None:
        return await routed.with_parts([Scope(project_id, user_id)], read)
    # In the direction in which users are moved: their events are seen before or after it.
    numbers = range(routed.places.count)
    return await read(reversed(numbers) if routed.places.layout == "returning" else numbers)


async def _placed(routed: Routed[PostgresEventStore], numbers: Sequence[int]) -> int:
    """Give the events of these partitions their positions; the last position of all."""
    home = routed.stores[HOME]
    for _ in range(_BATCHES_MAX):
        waiting = [
            await routed.at(number, lambda store: store.unplaced(PLACE_ROWS)) for number in numbers
        ]
        if not any(waiting):
            break
        async with home.positions() as take:
            for number, count in zip(numbers, waiting, strict=True):
                if count:
                    positions = await take(count)
                    await routed.stores[number].place(positions)
        if max(waiting) < PLACE_ROWS:
            break
    async with home.positions():
        return await home.last_position()
