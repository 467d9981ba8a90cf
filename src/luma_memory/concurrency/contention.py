"""Shared statements that do not wait for one owner's locked row.

A statement for many owners that meets a row locked by another transaction would make all of them
wait. Here it fails after a short lock timeout, the owners whose rows are locked are set apart, and
the rest runs again at once. A separated item runs in a statement per owner, which waits for locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from typing import Final, Generic, TypeVar

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.concurrency.retries import jittered

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
KeyT = TypeVar("KeyT", bound=Hashable)

# How long an item that was set apart waits for its lock.
WAIT_SECONDS_MAX: Final = 1.0
# How long an owner whose row was locked stays apart: each discovery of the lock costs the others
# one lock timeout.
APART_SECONDS: Final = 5.0
# Statements of owners set apart at the same time: each holds a connection while it waits.
APART_MAX: Final = 2
_PAUSE_SECONDS: Final = 0.05


class _Apart(Generic[ItemT, ResultT]):
    """The statements of one owner."""

    def __init__(self, coalescer: Coalescer[ItemT, ResultT]) -> None:
        self.coalescer = coalescer
        self.items = 0
        self.until = 0.0  # by the event loop's clock


class ContentionAware(Generic[ItemT, ResultT, KeyT]):
    """A `Coalescer` that survives locked rows.

    process: as for `Coalescer`; raises `contended` soon if a row stays locked. key_of: the
    owner of an item. locked: which of these owners' rows are locked now. The other parameters are
    those of the `Coalescer`.
    """

    def __init__(
        self,
        process: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]],
        *,
        contended: type[Exception],
        key_of: Callable[[ItemT], KeyT],
        locked: Callable[[Collection[KeyT]], Awaitable[Collection[KeyT]]],
        items_max: int,
        size_max: int | None = None,
        size_of: Callable[[ItemT], int] = lambda _item: 1,
        batches_max: int = 1,
        is_shared: Callable[[Exception], bool] = lambda _error: False,
    ) -> None:
        self._process = process
        self._contended = contended
        self._is_shared = is_shared
        self._key_of = key_of
        self._locked = locked
        self._items_max = items_max
        self._size_max = size_max
        self._size_of = size_of
        self._together = self._coalescer(self._call_together, batches_max)
        self._apart: dict[KeyT, _Apart[ItemT, ResultT]] = {}
        self._turns = asyncio.Semaphore(APART_MAX)

    async def submit(self, item: ItemT) -> ResultT:
        """The item's own result; raises its own error, `contended` after WAIT_SECONDS_MAX."""
        if self._apart and self._key_of(item) in self._apart:
            return await self._submit_apart(item)
        try:
            return await self._together.submit(item)
        except self._contended:
            return await self._submit_apart(item)

    async def submit_all(self, items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
        """Each item's own result or error, in order."""
        outcomes = list(await self._together.submit_all(items))
        contended = [n for n, one in enumerate(outcomes) if isinstance(one, self._contended)]
        again = await asyncio.gather(
            *(self._submit_apart(items[n]) for n in contended), return_exceptions=True
        )
        for n, outcome in zip(contended, again, strict=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
                raise outcome
            outcomes[n] = outcome
        return outcomes

    async def close(self) -> None:
        """Wait until every accepted item has its result."""
        await self._together.close()
        for apart in list(self._apart.values()):
            await apart.coalescer.close()

    def _coalescer(
        self,
        call: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]],
        batches_max: int,
    ) -> Coalescer[ItemT, ResultT]:
        return Coalescer(
            call,
            items_max=self._items_max,
            size_max=self._size_max,
            size_of=self._size_of,
            batches_max=batches_max,
            is_shared=self._is_shared,
        )

    async def _call_together(self, items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
        try:
            return await self._process(items)
        except self._contended as error:
            return await self._call_unlocked(items, error)

    async def _call_unlocked(
        self, items: Sequence[ItemT], error: Exception
    ) -> Sequence[ResultT | Exception]:
        """The results of items whose rows are free; the error for the others."""
        keys = [self._key_of(item) for item in items]
        owners = set(keys)
        locked = set(await self._locked(owners)) if len(owners) > 1 else owners
        for key in locked:
            self._set_apart(key)
        outcomes: list[ResultT | Exception] = [error] * len(items)
        free = [n for n, key in enumerate(keys) if key not in locked]
        if not free:
            return outcomes
        try:
            results = await self._process([items[n] for n in free])
        except self._contended:
            return outcomes  # no row shows the lock (any more): each owner alone
        for n, result in zip(free, results, strict=True):
            outcomes[n] = result
        return outcomes

    async def _submit_apart(self, item: ItemT) -> ResultT:
        key = self._key_of(item)
        apart = self._apart.get(key) or self._new_apart(key)
        apart.items += 1
        try:
            return await apart.coalescer.submit(item)
        finally:
            apart.items -= 1
            self._end_apart(key)

    def _new_apart(self, key: KeyT) -> _Apart[ItemT, ResultT]:
        async def call(items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
            return await self._call_patiently(key, items)

        apart = self._apart[key] = _Apart(self._coalescer(call, 1))
        return apart

    async def _call_patiently(
        self, key: KeyT, items: Sequence[ItemT]
    ) -> Sequence[ResultT | Exception]:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + WAIT_SECONDS_MAX
        while True:
            try:
                async with self._turns:
                    return await self._process(items)
            except self._contended as error:
                self._set_apart(key)
                if loop.time() >= give_up_at:
                    return [error] * len(items)
            await asyncio.sleep(jittered(_PAUSE_SECONDS))

    def _set_apart(self, key: KeyT) -> None:
        loop = asyncio.get_running_loop()
        apart = self._apart.get(key) or self._new_apart(key)
        apart.until = loop.time() + APART_SECONDS
        loop.call_later(APART_SECONDS, self._end_apart, key)

    def _end_apart(self, key: KeyT) -> None:
        apart = self._apart.get(key)
        now = asyncio.get_running_loop().time()
        if apart is not None and apart.items == 0 and now >= apart.until:
            del self._apart[key]
