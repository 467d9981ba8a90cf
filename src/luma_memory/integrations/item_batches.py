"""Concurrent calls of one event loop, sent as few requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from luma_memory.domain.errors import RequestError
from luma_memory.domain.item import OPERATIONS_MAX
from luma_memory.integrations.clients import Clients
from luma_memory.protocol.items import ItemOperationResult

# A request that waits for an embedding does not delay all others.
_REQUESTS_MAX: Final = 4

Operations = Sequence[dict[str, Any]]
Results = Sequence[ItemOperationResult]


@dataclass(frozen=True, slots=True)
class _Call:
    operations: Operations
    results: asyncio.Future[Results]


class ItemBatches:
    """Sends operations on items of one user; calls that wait for a request share the next one."""

    def __init__(self, clients: Clients, user_id: str) -> None:
        self._clients = clients
        self._user_id = user_id
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting] = WeakKeyDictionary()

    async def run(self, operations: Operations) -> Results:
        """The results of up to 1,000 operations, which are carried out one after the other."""
        loop = asyncio.get_running_loop()
        waiting = self._by_loop.setdefault(loop, _Waiting())
        if not waiting.senders and _is_one_read(operations):
            return await self._read(waiting, operations[0])
        call = _Call(operations, loop.create_future())
        waiting.calls.append(call)
        if len(waiting.senders) < _REQUESTS_MAX:
            sender = loop.create_task(self._send_all(waiting))
            waiting.senders.add(sender)
            sender.add_done_callback(waiting.senders.discard)
        return await call.results

    async def _read(self, waiting: _Waiting, operation: dict[str, Any]) -> Results:
        """The only call at present, as one request without a batch. Later calls have their own."""
        task = asyncio.current_task()
        assert task is not None
        waiting.senders.add(task)
        try:
            item = await self._clients.asynchronous.get_item(
                operation["namespace"],
                operation["key"],
                user_id=self._user_id,
                refresh_ttl=operation["refresh_ttl"],
            )
        finally:
            waiting.senders.discard(task)
        return [ItemOperationResult.model_construct(index=0, item=item)]

    async def _send_all(self, waiting: _Waiting) -> None:
        while calls := waiting.next_calls():
            try:
                await self._send(calls)
            except RequestError as error:
                # One call is wrong, and only that one shall fail.
                if len(calls) == 1:
                    _fail(calls, error)
                    continue
                for call in calls:
                    try:
                        await self._send([call])
                    except Exception as own:
                        _fail([call], own)
            except BaseException as error:
                _fail(calls, error)
                if not isinstance(error, Exception):
                    raise

    async def _send(self, calls: Sequence[_Call]) -> None:
        operations = [operation for call in calls for operation in call.operations]
        response = await self._clients.asynchronous.batch_items(operations, user_id=self._user_id)
        start = 0
        for call in calls:
            end = start + len(call.operations)
            if not call.results.done():
                call.results.set_result(response.results[start:end])
            start = end


def _is_one_read(operations: Operations) -> bool:
    return len(operations) == 1 and operations[0].get("op") == "get"


class _Waiting:
    """The calls of one event loop that are not sent yet, and the tasks that send them."""

    def __init__(self) -> None:
        self.calls: deque[_Call] = deque()
        self.senders: set[asyncio.Task[None]] = set()

    def next_calls(self) -> Sequence[_Call]:
        """The first calls, without those that were cancelled, up to one request."""
        taken: list[_Call] = []
        count = 0
        while self.calls and count + len(self.calls[0].operations) <= OPERATIONS_MAX:
            call = self.calls.popleft()
            if not call.results.done():
                taken.append(call)
                count += len(call.operations)
        return taken


def _fail(calls: Sequence[_Call], error: BaseException) -> None:
    for call in calls:
        if not call.results.done():
            if isinstance(error, asyncio.CancelledError):
                call.results.cancel()
            else:
                call.results.set_exception(error)
