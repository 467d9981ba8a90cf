"""Calls to one partition, to those of some items, or to all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

from luma_memory.domain.errors import LumaMemoryError, PartitionMismatch
from luma_memory.domain.job import Job
from luma_memory.domain.scope import Scope
from luma_memory.partitions.places import Places
from luma_memory.partitions.user_locations import Calls, look_up, unknown_outcome

StoreT = TypeVar("StoreT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
KeyT = TypeVar("KeyT", bound=Hashable)
# Partitions that one call works on at the same time.
AT_ONCE: Final = 16
# Positions in a sequence, by partition.
Parts: TypeAlias = dict[int, list[int]]


class Routed(Generic[StoreT]):
    """One repository in every partition: `stores[n]` works on partition n."""

    def __init__(self, places: Places, stores: Sequence[StoreT]) -> None:
        self.places = places
        self.stores = stores

    async def of(
        self, scope: Scope, work: Callable[[StoreT], Awaitable[ResultT]], *, writes: bool = False
    ) -> ResultT:
        """`work` with the repository that has the user."""
        began = time.monotonic()
        await self.places.know()
        if not self.places.moves_users:
            number = self.places.number_of(scope)
            try:
                done = await self.at(number, work, writes=writes)
            except PartitionMismatch:  # nothing was written
                if not self.places.moves_users:
                    raise
            else:
                if not await self.places.is_overtaken(began):
                    return done
                (now,) = await look_up(self.places, [scope])
                if now.number == number:
                    return done
                if writes:
                    raise unknown_outcome()

        async def one(number: int, _positions: Sequence[int]) -> Sequence[ResultT]:
            return [await work(self.stores[number])]

        result: ResultT | LumaMemoryError
        (result,) = await Calls(self.places, [scope], one, writes=writes).run()
        return _or_raise(result)

    async def of_job(self, job: Job, work: Callable[[StoreT], Awaitable[ResultT]]) -> ResultT:
        """A write where the job is: with its user, who may have been moved since it was claimed."""
        if not job.scope.user_id:  # a delivery of webhooks
            return await self.at(job.partition, work, writes=True)
        return await self.of(job.scope, work, writes=True)

    async def at(
        self, number: int, work: Callable[[StoreT], Awaitable[ResultT]], *, writes: bool = False
    ) -> ResultT:
        """`work` with the repository of a partition."""
        store = self.stores[number]
        return await self.places.run(number, lambda: work(store), writes=writes)

    async def all(
        self, work: Callable[[StoreT], Awaitable[ResultT]], *, writes: bool = False
    ) -> Sequence[ResultT]:
        """`work` with every partition, some at once; results in order of the partitions.

        Raises the error of a partition that does not respond, after all others have ended.
        """
        outcomes = await self.outcomes(work, writes=writes)
        return [_or_raise(outcome) for outcome in outcomes]

    async def responding(
        self, work: Callable[[StoreT], Awaitable[ResultT]], *, writes: bool = False
    ) -> Sequence[ResultT]:
        """`all`, without the partitions that do not respond. Raises if none does."""
        outcomes = await self.outcomes(work, writes=writes)
        found = [one for one in outcomes if not isinstance(one, LumaMemoryError)]
        return found or [_or_raise(outcomes[0])]

    async def outcomes(
        self,
        work: Callable[[StoreT], Awaitable[ResultT]],
        *,
        writes: bool = False,
        numbers: Sequence[int] | None = None,
    ) -> Sequence[ResultT | LumaMemoryError]:
        """The result or error of every partition, or of those `numbers`, in order."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> ResultT | LumaMemoryError:
            async with turns:
                try:
                    return await self.at(number, work, writes=writes)
                except LumaMemoryError as error:
                    return error

        chosen = range(self.places.count) if numbers is None else numbers
        return await asyncio.gather(*map(one, chosen))

    async def with_parts(
        self, scopes: Sequence[Scope], work: Callable[[Parts], Awaitable[ResultT]]
    ) -> ResultT:
        """The result of a read of several users at once. work: called with the positions of the
        users by partition; once more if one of them was moved meanwhile."""
        await self.places.know()
        while True:
            if not self.places.moves_users:
                began = time.monotonic()
                result = await work(self.parted(scopes, lambda scope: scope))
                if not await self.places.is_overtaken(began):
                    return result
            before = await look_up(self.places, scopes)
            parts: Parts = {}
            for n, one in enumerate(before):
                parts.setdefault(one.number, []).append(n)
            result = await work(parts)
            after = await look_up(self.places, scopes)
            if [one.number for one in before] == [one.number for one in after]:
                return result

    def parted(
        self, items: Sequence[ItemT], scope_of: Callable[[ItemT], Scope]
    ) -> dict[int, list[int]]:
        """The places of the items in their sequence, by partition."""
        parts: dict[int, list[int]] = {}
        for n, item in enumerate(items):
            parts.setdefault(self.places.number_of(scope_of(item)), []).append(n)
        return parts

    async def each(
        self,
        items: Sequence[ItemT],
        scope_of: Callable[[ItemT], Scope],
        work: Callable[[StoreT, Sequence[ItemT]], Awaitable[Sequence[ResultT]]],
        *,
        writes: bool = False,
        inserts: bool = False,
    ) -> Sequence[ResultT | LumaMemoryError]:
        """One call for each partition with its items, at once; each item's own result, in order.

        The items of a partition whose call raised have its error; the others are not affected. If
        all items belong to one partition, its error is raised. inserts: see `Calls`.
        """
        began = time.monotonic()
        await self.places.know()
        scopes = [scope_of(item) for item in items]
        if not self.places.moves_users:
            numbers = [self.places.number_of(scope) for scope in scopes]
            try:
                done = await self._each(items, scope_of, work, writes=writes)
            except PartitionMismatch as error:
                if not self.places.moves_users:
                    raise
                done = [error] * len(items)
            refused = [n for n, one in enumerate(done) if isinstance(one, PartitionMismatch)]
            if refused and self.places.moves_users:  # nothing was written
                results = list(done)
                chosen = [items[n] for n in refused]
                again = await self.each(chosen, scope_of, work, writes=writes, inserts=inserts)
                for n, result in zip(refused, again, strict=True):
                    results[n] = result
                return results
            if inserts or not await self.places.is_overtaken(began):
                return done
            now = await look_up(self.places, scopes)
            stands = [one.number == before for one, before in zip(now, numbers, strict=True)]
            if writes or all(stands):
                return [
                    result if stays else unknown_outcome()
                    for result, stays in zip(done, stands, strict=True)
                ]

        async def some(number: int, positions: Sequence[int]) -> Sequence[ResultT]:
            return await work(self.stores[number], [items[n] for n in positions])

        return await Calls(self.places, scopes, some, writes=writes, inserts=inserts).run()

    async def _each(
        self,
        items: Sequence[ItemT],
        scope_of: Callable[[ItemT], Scope],
        work: Callable[[StoreT, Sequence[ItemT]], Awaitable[Sequence[ResultT]]],
        *,
        writes: bool,
    ) -> Sequence[ResultT | LumaMemoryError]:
        parts = self.parted(items, scope_of)
        if len(parts) == 1:
            (number,) = parts
            return await self.at(number, lambda store: work(store, items), writes=writes)
        results: list[Any] = [None] * len(items)

        async def one(number: int, positions: Sequence[int]) -> None:
            chosen = [items[n] for n in positions]
            outcome: Sequence[Any]
            try:
                outcome = await self.at(number, lambda store: work(store, chosen), writes=writes)
            except LumaMemoryError as error:
                outcome = [error] * len(chosen)
            for n, result in zip(positions, outcome, strict=True):
                results[n] = result

        await asyncio.gather(*(one(number, found) for number, found in parts.items()))
        return results


def results_or_raise(outcomes: Sequence[ResultT | LumaMemoryError]) -> Sequence[ResultT]:
    """The results; raises the first error."""
    return [_or_raise(outcome) for outcome in outcomes]


def _or_raise(outcome: ResultT | LumaMemoryError) -> ResultT:
    if isinstance(outcome, LumaMemoryError):
        raise outcome
    return outcome
