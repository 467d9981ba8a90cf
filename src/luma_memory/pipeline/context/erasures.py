"""Delete cached contexts of erased scopes, even if the cache is unavailable at that time.

While PostgreSQL is available, an entry of an erased scope matches no current version and is never
served. But the entry is still stored, and during an outage of PostgreSQL it would be served
unchecked. Therefore:

- The entries are deleted; while the cache is unavailable, the deletion is retried.
- A marker in the cache outlives every entry of the scope. Without PostgreSQL, an entry is served
  only if the cache confirms that there is no marker; this covers copies in other processes' memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Final

from luma_memory.concurrency.retries import jittered
from luma_memory.domain.cache import erasure_key
from luma_memory.domain.errors import CacheUnavailable
from luma_memory.ports.cache import Cache

_MARK: Final = b"1"
_PAUSE_SECONDS: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 5.0
# Deletions that wait for the cache; beyond that, the oldest are left to expire.
_PENDING_MAX: Final = 100_000


class Erasures:
    """Deletes the entries of erased scopes. ttl: no entry is kept longer."""

    def __init__(self, cache: Cache, *, ttl: timedelta) -> None:
        self._cache = cache
        self._ttl_seconds = ttl.total_seconds()
        # In order of erasure, with the time at which the entries will have expired.
        self._pending: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def erase(self, owner: str) -> int:
        """Delete the entries of an owner; returns how many.

        If the cache is unavailable, returns 0 and deletes them later.
        """
        try:
            return await self._delete(owner)
        except CacheUnavailable:
            self._remember(owner)
            return 0

    async def may_be_erased(self, owner: str) -> bool:
        """Whether a scope was erased lately; True also if the cache is unavailable."""
        if owner in self._pending:
            return True
        try:
            return await self._cache.fetch(erasure_key(owner)) is not None
        except CacheUnavailable:
            return True

    async def close(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _delete(self, owner: str) -> int:
        # The marker first: it covers entries that are stored between the two steps.
        await self._cache.store(erasure_key(owner), _MARK, ttl_seconds=self._ttl_seconds)
        return await self._cache.drop_all("context", owner)

    def _remember(self, owner: str) -> None:
        now = asyncio.get_running_loop().time()
        self._pending[owner] = now + self._ttl_seconds
        while len(self._pending) > _PENDING_MAX:
            del self._pending[next(iter(self._pending))]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._delete_pending(), name="pending-erasures")

    async def _delete_pending(self) -> None:
        """Until nothing is pending: deleted, or expired by itself."""
        pause_seconds = _PAUSE_SECONDS
        while self._pending:
            await asyncio.sleep(jittered(pause_seconds))
            owner, expired_at = next(iter(self._pending.items()))
            try:
                await self._delete(owner)
            except CacheUnavailable:
                pause_seconds = min(pause_seconds * 2, _PAUSE_SECONDS_MAX)
                if asyncio.get_running_loop().time() < expired_at:
                    continue
            else:
                pause_seconds = 0.0
            self._pending.pop(owner, None)
