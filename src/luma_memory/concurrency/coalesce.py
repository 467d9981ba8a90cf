"""Natural batching: while one batch is in flight, arriving items queue; the next takes them all.

There is no timer, so a lone item never waits, and under load one batch serves many callers. The
same primitive serves inserts, embedding calls, block reads and write-backs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    item: ItemT
    size: int
    result: asyncio.Future[ResultT]


class Coalescer(Generic[ItemT, ResultT]):
    """Call `process` with as many waiting items as fit, at most `batches_max` calls at a time.

    process: takes items in order of arrival, returns one result each, in the same order; a result
    that is an exception is raised to its own caller alone.
    items_max, size_max: bounds of one batch; an item larger than size_max is processed alone.
    is_shared: whether an error that `process` raised would have met every item, as an outage does.

    When a batch of several items raises, each item is tried once more alone, so that one bad item
    never fails its neighbors; a shared error is raised to all callers instead. The item of a caller
    cancelled while waiting is dropped; one in flight stays there, and only its result is dropped,
    since the work may be done already.
    """

    def __init__(
        self,
        process: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]],
        *,
        items_max: int,
        size_max: int | None = None,
        size_of: Callable[[ItemT], int] = lambda _item: 1,
        batches_max: int = 1,
        is_shared: Callable[[Exception], bool] = lambda _error: False,
    ) -> None:
        self._process = process
        self._items_max = items_max
        self._size_max = size_max if size_max is not None else items_max
        self._size_of = size_of
        self._batches_max = batches_max
        self._is_shared = is_shared
        self._waiting: deque[_Waiting[ItemT, ResultT]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    async def submit(self, item: ItemT) -> ResultT:
        """The item's own result; raises its own error."""
        result: asyncio.Future[ResultT] = self._new_future()
        self._waiting.append(_Waiting(item, self._size_of(item), result))
        self._start_next()
        return await result

    async def submit_all(self, items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
        """Each item's own result or error, in order."""
        results: list[asyncio.Future[ResultT]] = [self._new_future() for _ in items]
        self._waiting.extend(
            _Waiting(item, self._size_of(item), result)
            for item, result in zip(items, results, strict=True)
        )
        self._start_next()
        outcomes = await asyncio.gather(*results, return_exceptions=True)
        return [_result_or_error(outcome) for outcome in outcomes]

    async def close(self) -> None:
        """Wait until every accepted item has its result."""
        while self._running:
            await asyncio.wait(self._running)

    def _new_future(self) -> asyncio.Future[ResultT]:
        # Asking for the running loop is a system call, for each of ten thousand items a second.
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
        return self._loop.create_future()

    def _start_next(self) -> None:
        if self._waiting and len(self._running) < self._batches_max:
            task = asyncio.ensure_future(self._run_next())
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start_next()

    async def _run_next(self) -> None:
        # Taken when the batch starts, not when it is scheduled: items that arrive in between join.
        if batch := self._next_batch():
            await self._run(batch)

    def _next_batch(self) -> list[_Waiting[ItemT, ResultT]]:
        batch: list[_Waiting[ItemT, ResultT]] = []
        size_left = self._size_max
        while self._waiting and len(batch) < self._items_max:
            entry = self._waiting[0]
            if not entry.result.done():  # done already: its caller was cancelled while waiting
                if batch and entry.size > size_left:
                    break
                size_left -= entry.size
                batch.append(entry)
            self._waiting.popleft()
        return batch

    async def _run(self, batch: list[_Waiting[ItemT, ResultT]]) -> None:
        try:
            results = await self._results(batch)
        except Exception as error:
            if len(batch) > 1 and not self._is_shared(error):
                await self._run_each(batch)
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
        results = await self._process([entry.item for entry in batch])
        if len(results) != len(batch):
            raise RuntimeError(f"a batch of {len(batch)} items returned {len(results)} results")
        return results

    async def _run_each(self, batch: list[_Waiting[ItemT, ResultT]]) -> None:
        for entry in batch:
            await self._run([entry])


def _result_or_error(outcome: ResultT | BaseException) -> ResultT | Exception:
    if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
        raise outcome  # the batch was cancelled
    return outcome


def _settle(entry: _Waiting[ItemT, ResultT], result: ResultT | Exception) -> None:
    if entry.result.done():
        return
    if isinstance(result, Exception):
        entry.result.set_exception(result)
    else:
        entry.result.set_result(result)
