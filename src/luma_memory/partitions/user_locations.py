"""Where users are while they are moved one by one, between the home partition and all partitions.

A user is at their former partition as long as its `memory_partition_users` lists them, and at the
new one from then on; one transaction changes the list and the rows. Each call on a user at the
former partition is preceded by a check of that list. The transaction that moves a user holds the
user's lock for STEADY_SECONDS at least, and that check waits for no lock but reports it. Hence a
call that took less time saw and changed the user's rows where they were. After a longer one the
list is read again: if the user has gone, a read is repeated at the new partition; of a write it is
unknown whether it came before the move, so it fails as one whose connection was lost.

Writes that reach the former partition too late are refused there by triggers (`scope_fence`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from luma_memory.domain.errors import (
    LumaMemoryError,
    PartitionMismatch,
    PartitionPaused,
    StoreUnavailable,
)
from luma_memory.domain.partition import HOME, partition_number
from luma_memory.domain.scope import Scope
from luma_memory.partitions.places import PAUSE_SECONDS, Places
from luma_memory.store.partitions import STEADY_SECONDS, users_here

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
# How long a write waits before it tries again.
_AGAIN_SECONDS: Final = 0.02
Work = Callable[[int, Sequence[ItemT]], Awaitable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class UserLocation:
    """number: the user's partition now. is_steady: it stays that for a moment."""

    number: int
    is_former: bool
    is_steady: bool


async def look_up(places: Places, scopes: Sequence[Scope]) -> Sequence[UserLocation]:
    """In the order of the users, who may be in transit. Raises StoreUnavailable."""
    if not places.moves_users:  # not any more
        return [
            UserLocation(places.number_of(scope), is_former=False, is_steady=True)
            for scope in scopes
        ]
    found: dict[Scope, UserLocation] = {}
    layout_number = places.layout_number
    checked: dict[int, list[Scope]] = {}
    is_returning = places.layout == "returning"
    for scope in dict.fromkeys(scopes):
        number = partition_number(scope, places.count)
        former, new = (number, HOME) if is_returning else (HOME, number)
        if number == HOME or scope in places.arrived:
            found[scope] = UserLocation(new, is_former=False, is_steady=True)
        else:
            checked.setdefault(former, []).append(scope)
    for former, chosen in checked.items():

        async def ask(former: int = former, chosen: Sequence[Scope] = chosen) -> Any:
            return await users_here(places.all[former].database, chosen)

        rows = await places.run(former, ask, writes=False)
        for scope, (is_here, is_free) in zip(chosen, rows, strict=True):
            if is_here:
                found[scope] = UserLocation(former, is_former=True, is_steady=is_free)
            else:
                places.note_arrival(scope, layout_number)
                new = HOME if is_returning else partition_number(scope, places.count)
                found[scope] = UserLocation(new, is_former=False, is_steady=True)
    return [found[scope] for scope in scopes]


def unknown_outcome() -> StoreUnavailable:
    return StoreUnavailable("The user was moved meanwhile, so the outcome is unknown: try again")


class Calls:
    """One call on items of several users, some of whom may be moved while it runs.

    work: called with a partition and positions of the items, for a result of each. inserts: it
    writes new rows for each item, which the former partition refuses once the user has gone: a
    result is never in doubt.
    """

    def __init__(
        self,
        places: Places,
        scopes: Sequence[Scope],
        work: Callable[[int, Sequence[int]], Awaitable[Sequence[Any]]],
        *,
        writes: bool,
        inserts: bool = False,
    ) -> None:
        self._inserts = inserts
        self._places = places
        self._scopes = scopes
        self._work = work
        self._writes = writes
        self._results: list[Any] = [None] * len(scopes)
        self._again: list[int] = []

    async def run(self) -> Sequence[Any]:
        """Each item's result or LumaMemoryError."""
        deadline = time.monotonic() + PAUSE_SECONDS
        left: Sequence[int] = range(len(self._scopes))
        while left:
            self._again = []
            await self._round(left)
            left = sorted(self._again)
            if left and time.monotonic() > deadline:
                error = PartitionPaused("Writes of this user are paused: the user is being moved")
                for n in left:
                    self._results[n] = error
                break
            if left:
                await asyncio.sleep(_AGAIN_SECONDS)
        return self._results

    async def _round(self, positions: Sequence[int]) -> None:
        began = time.monotonic()
        try:
            await self._places.know()
            layout = self._places.layout_number
            found = await look_up(self._places, [self._scopes[n] for n in positions])
        except LumaMemoryError as error:
            for n in positions:
                self._results[n] = error
            return
        groups: dict[tuple[int, bool, bool], list[int]] = {}
        for n, one in zip(positions, found, strict=True):
            if self._writes and not one.is_steady:
                self._again.append(n)
            else:
                groups.setdefault((one.number, one.is_former, one.is_steady), []).append(n)
        await asyncio.gather(
            *(
                self._call(number, chosen, is_former, is_steady, began, layout)
                for (number, is_former, is_steady), chosen in groups.items()
            )
        )

    async def _call(
        self,
        number: int,
        positions: Sequence[int],
        is_former: bool,
        is_steady: bool,
        began: float,
        layout: int,
    ) -> None:
        try:
            results = await self._places.run(
                number, lambda: self._work(number, positions), writes=self._writes
            )
        except PartitionMismatch:  # nothing was written
            self._again += positions
            return
        except LumaMemoryError as error:
            results = [error] * len(positions)
        for n, result in zip(positions, results, strict=True):
            self._results[n] = result
        is_late = time.monotonic() - began > STEADY_SECONDS or not is_steady
        if self._inserts:
            return
        if (is_former and is_late) or self._places.layout_number != layout:
            await self._check(number, positions)

    async def _check(self, number: int, positions: Sequence[int]) -> None:
        """Whether the users are still where the call went."""
        try:
            found = await look_up(self._places, [self._scopes[n] for n in positions])
        except LumaMemoryError as error:
            for n in positions:
                self._results[n] = error
            return
        for n, one in zip(positions, found, strict=True):
            if one.number == number or isinstance(self._results[n], LumaMemoryError):
                continue
            if self._writes:
                self._results[n] = unknown_outcome()
            else:
                self._again.append(n)
