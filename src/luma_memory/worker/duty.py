"""Calibration duties: one contract for starting and stopping all of them.

start is idempotent; stop waits, is idempotent, and is harmless before start. A duty that dies of
an error nobody foresaw ends the worker: half a worker is worse than none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from luma_memory.domain.errors import LumaMemoryError
from luma_memory.telemetry.events import Emit, WorkerRoundFailed


class Duty:
    """A loop that runs until it is stopped."""

    def __init__(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.name = name
        self._loop = loop
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name=self.name)

    async def stop(self) -> None:
        task = self._task
        if task is None:
            return
        # Once: a loop that saves its last state when it is cancelled must not be cancelled in that.
        if not task.cancelling():
            task.cancel()
        await asyncio.wait([task])
        if self._task is task:
            self._task = None

    async def ended(self) -> None:
        """Wait until the loop ends by itself, and raise what it died of. The duty is started."""
        assert self._task is not None
        await asyncio.shield(self._task)


def periodic(
    name: str, work: Callable[[], Awaitable[None]], *, every_seconds: float, emit: Emit
) -> Duty:
    """A duty that does `work` again and again, first after `every_seconds`.

    A round that fails with one of our errors is told and followed by the next one.
    """

    async def loop() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await work()
            except LumaMemoryError as error:
                emit(WorkerRoundFailed(name, str(error)))

    return Duty(name, loop)
