"""Natural batching: while one batch is in flight, arriving items gather; the next takes them all.

There is no timer, so a lone item waits for nobody, and under load one flight serves many. The same
primitive stands behind inserts, embedding calls, block reads and write-backs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from luma_memory.domain.errors import InvariantError, StoreContended, UnavailableError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    item: ItemT
    size: int
    result: asyncio.Future[ResultT]


class Coalescer(Generic[ItemT, ResultT]):
    """Call `flight` with as many waiting items as fit, at most `flights_max` at a time.

    flight: takes items in order of arrival, returns one result each, in the same order; a result
    that is an exception is raised to its own caller alone.
    items_max, size_max: bounds of one flight; an item larger than size_max flies alone.

    When a flight of several items raises, each is tried once more alone, so that one bad item
    never fails its neighbours; an UnavailableError is nobody's fault and told to all, except for
    StoreContended, which is about somebody's row. The item of
    a caller cancelled while waiting is dropped; one in flight stays there, and only its answer is
    dropped, since the work may be done already.
    """

    def __init__(
        self,
        flight: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]],
        *,
        items_max: int,
        size_max: int | None = None,
        size_of: Callable[[ItemT], int] = lambda _item: 1,
        flights_max: int = 1,
    ) -> None:
        self._flight = flight
        self._items_max = items_max
        self._size_max = size_max if size_max is not None else items_max
        self._size_of = size_of
        self._flights_max = flights_max
        self._waiting: deque[_Waiting[ItemT, ResultT]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """Items that no flight has taken yet."""
        return len(self._waiting)

    async def submit(self, item: ItemT) -> ResultT:
        """The item's own result; raises its own error."""
        result: asyncio.Future[ResultT] = self._new_future()
        self._waiting.append(_Waiting(item, self._size_of(item), result))
        self._take_off()
        return await result

    async def submit_all(self, items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
        """Each item's own result or error, in order."""
        results: list[asyncio.Future[ResultT]] = [self._new_future() for _ in items]
        self._waiting.extend(
            _Waiting(item, self._size_of(item), result)
            for item, result in zip(items, results, strict=True)
        )
        self._take_off()
        outcomes = await asyncio.gather(*results, return_exceptions=True)
        return [_result_or_error(outcome) for outcome in outcomes]

    async def close(self) -> None:
        """Wait until every accepted item has its answer."""
        while self._flights:
            await asyncio.wait(self._flights)

    def _new_future(self) -> asyncio.Future[ResultT]:
        # Asking which loop runs is a system call, for each of ten thousand items a second.
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
        return self._loop.create_future()

    def _take_off(self) -> None:
        if self._waiting and len(self._flights) < self._flights_max:
            task = asyncio.ensure_future(self._fly_next())
            self._flights.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flights.discard(task)
        self._take_off()

    async def _fly_next(self) -> None:
        # Taken when the flight starts, not when it is planned: whoever arrives in between joins.
        if batch := self._next_batch():
            await self._fly(batch)

    def _next_batch(self) -> list[_Waiting[ItemT, ResultT]]:
        batch: list[_Waiting[ItemT, ResultT]] = []
        room = self._size_max
        while self._waiting and len(batch) < self._items_max:
            entry = self._waiting[0]
            if not entry.result.done():  # done already: its caller was cancelled while waiting
                if batch and entry.size > room:
                    break
                room -= entry.size
                batch.append(entry)
            self._waiting.popleft()
        return batch

    async def _fly(self, batch: list[_Waiting[ItemT, ResultT]]) -> None:
        try:
            results = await self._results(batch)
        except Exception as error:
            if len(batch) > 1 and _may_be_one_items_fault(error):
                await self._fly_alone(batch)
                return
            for entry in batch:
                _settle(entry, error)
            return
        except BaseException:
            for entry in batch:
                entry.result.cancel()
            raise
        for entry, result in zip(batch, results, strict=True):
            _settle(entry, result)

    async def _results(
        self, batch: list[_Waiting[ItemT, ResultT]]
    ) -> Sequence[ResultT | Exception]:
        results = await self._flight([entry.item for entry in batch])
        if len(results) != len(batch):
            raise InvariantError(f"a flight of {len(batch)} came back with {len(results)}")
        return results

    async def _fly_alone(self, batch: list[_Waiting[ItemT, ResultT]]) -> None:
        for entry in batch:
            await self._fly([entry])


def _result_or_error(outcome: ResultT | BaseException) -> ResultT | Exception:
    if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
        raise outcome  # the flight was cancelled
    return outcome


def _may_be_one_items_fault(error: Exception) -> bool:
    return isinstance(error, StoreContended) or not isinstance(error, UnavailableError)


def _settle(entry: _Waiting[ItemT, ResultT], result: ResultT | Exception) -> None:
    if entry.result.done():
        return
    if isinstance(result, Exception):
        entry.result.set_exception(result)
    else:
        entry.result.set_result(result)
