"""The progress of a change of the embedding model, for health and metrics.

Reading it scans all passages, and health and metrics are read every few seconds by who knows how
many: the last value is returned, and read again in the background at most a twentieth of the time.
"""

from __future__ import annotations

import asyncio
from typing import Final

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.ports.vector_models import ReembedProgress, ReembedState, VectorModels

PAUSE_PER_READ: Final = 20
_PAUSE_SECONDS_MIN: Final = 5.0
# How long a request waits for the value it started to read, below the limit of health's parts:
# otherwise the first one after a long time would see a value as old as the one before it.
_WAIT_SECONDS_MAX: Final = 0.4


class ReembedWatch:
    """For any requested model, whether this process embeds with it or with the previous one."""

    def __init__(self, store: VectorModels, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._model_id: str | None = None  # of the last value
        self._last: ReembedProgress | None = None
        self._next_read = 0.0
        self._task: asyncio.Task[None] | None = None

    async def state(self) -> ReembedState | None:
        """The requested model and the last known progress; None while no change is requested.

        Waits a moment for a new value. Raises StoreUnavailable.
        """
        model_id = await self._store.requested()
        if model_id != self._model_id:
            self._model_id, self._last, self._next_read = model_id, None, 0.0
        if model_id is None:
            return None
        if self._task is None and self._clock.monotonic() >= self._next_read:
            self._task = asyncio.create_task(self._read(model_id))
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_WAIT_SECONDS_MAX)
        return ReembedState(model_id, self._last)

    async def close(self) -> None:
        """Cancel a running read. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, model_id: str) -> None:
        started, found = self._clock.monotonic(), None
        try:
            found = await self._store.progress(model_id)
        except LumaMemoryError:
            pass  # unknown: the next request after the pause reads it again
        finally:
            now = self._clock.monotonic()
            pause = max(_PAUSE_SECONDS_MIN, PAUSE_PER_READ * (now - started))
            self._task = None
            if model_id == self._model_id:  # else another one is requested by now
                self._last, self._next_read = found, now + pause
