"""Background duties: one contract for starting and stopping all of them.

start is idempotent; stop waits, is idempotent, and is harmless before start. An unexpected error
in a duty stops the whole worker: a worker that runs only some of its duties is worse than none.
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
        # Once: a loop that saves its state on cancellation must not be cancelled while saving.
        if not task.cancelling():
            task.cancel()
        await asyncio.wait([task])
        if self._task is task:
            self._task = None

    async def ended(self) -> None:
        """Wait until the loop ends, and raise the error it ended with. The duty must be started."""
        assert self._task is not None
        await asyncio.shield(self._task)


def periodic(
    name: str, work: Callable[[], Awaitable[None]], *, every_seconds: float, emit: Emit
) -> Duty:
    """A duty that calls `work` periodically, first after `every_seconds`.

    A round that fails with a LumaMemoryError is reported, and the next one runs as usual.
    """

    async def loop() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await work()
            except LumaMemoryError as error:
                emit(WorkerRoundFailed(name, str(error)))

    return Duty(name, loop)
