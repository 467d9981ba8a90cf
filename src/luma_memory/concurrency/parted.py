"""Batches of one part each: a part that is slow or fails delays no item of another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

ItemT = TypeVar("ItemT", contravariant=True)
ResultT = TypeVar("ResultT", covariant=True)
OneItemT = TypeVar("OneItemT")
OneResultT = TypeVar("OneResultT")


class Batches(Protocol[ItemT, ResultT]):
    """What a `Coalescer` does."""

    async def submit(self, item: ItemT) -> ResultT:
        """The item's own result; raises its own error."""
        ...

    async def submit_all(self, items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
        """Each item's own result or error, in order."""
        ...

    async def close(self) -> None:
        """Wait until every accepted item has its result."""
        ...


def parted(
    make: Callable[[], Batches[OneItemT, OneResultT]],
    part_of: Callable[[OneItemT], Hashable] | None,
) -> Batches[OneItemT, OneResultT]:
    """Batches for the items of each part, which `part_of` names; None if there is one part."""
    return make() if part_of is None else _Parted(make, part_of)


class _Parted(Generic[OneItemT, OneResultT]):
    """Makes the batches of a part with its first item, and keeps them: parts are few."""

    def __init__(
        self,
        make: Callable[[], Batches[OneItemT, OneResultT]],
        part_of: Callable[[OneItemT], Hashable],
    ) -> None:
        self._make = make
        self._part_of = part_of
        self._parts: dict[Hashable, Batches[OneItemT, OneResultT]] = {}

    async def submit(self, item: OneItemT) -> OneResultT:
        return await self._batches(self._part_of(item)).submit(item)

    async def submit_all(self, items: Sequence[OneItemT]) -> Sequence[OneResultT | Exception]:
        places: dict[Hashable, list[int]] = {}
        for n, item in enumerate(items):
            places.setdefault(self._part_of(item), []).append(n)
        outcomes: list[OneResultT | Exception | None] = [None] * len(items)

        async def submit(part: Hashable, positions: Sequence[int]) -> None:
            found = await self._batches(part).submit_all([items[n] for n in positions])
            for n, outcome in zip(positions, found, strict=True):
                outcomes[n] = outcome

        await asyncio.gather(*(submit(part, found) for part, found in places.items()))
        return outcomes  # type: ignore[return-value]  # each has its outcome

    async def close(self) -> None:
        await asyncio.gather(*(batches.close() for batches in self._parts.values()))

    def _batches(self, part: Hashable) -> Batches[OneItemT, OneResultT]:
        found = self._parts.get(part)
        if found is None:
            found = self._parts[part] = self._make()
        return found
