"""The progress of a change of the embedding model, for metrics.

Reading it scans all passages, and metrics are read every few seconds by who knows how many: the
last value is returned, and read again in the background at most a twentieth of the time.
"""

from __future__ import annotations

import asyncio
from typing import Final

from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.ports.vector_models import ReembedProgress, VectorModels

PAUSE_PER_READ: Final = 20
_PAUSE_SECONDS_MIN: Final = 5.0


class ReembedWatch:
    """model_id: of the configured embedder."""

    def __init__(self, store: VectorModels, *, model_id: str, clock: Clock) -> None:
        self._store = store
        self._model_id = model_id
        self._clock = clock
        self._last: ReembedProgress | None = None
        self._next_read = 0.0
        self._task: asyncio.Task[None] | None = None

    async def progress(self) -> ReembedProgress | None:
        """The last known progress; None while no change to this model is requested.

        Waits only for the first value. Raises StoreUnavailable.
        """
        if await self._store.requested() != self._model_id:
            self._last = None
            return None
        if self._task is None and self._clock.monotonic() >= self._next_read:
            self._task = asyncio.create_task(self._read())
        if self._last is None and self._task is not None:
            await asyncio.shield(self._task)
        return self._last

    async def close(self) -> None:
        """Cancel a running read. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        started = self._clock.monotonic()
        try:
            self._last = await self._store.progress(self._model_id)
        except LumaMemoryError:
            self._last = None  # unknown: the next request after the pause reads it again
        finally:
            now = self._clock.monotonic()
            pause = max(_PAUSE_SECONDS_MIN, PAUSE_PER_READ * (now - started))
            self._next_read, self._task = now + pause, None
