"""The context cache and its counters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from luma_memory.domain.cache import CacheCounts, CacheFacts, CacheKey, EntryKind
from luma_memory.domain.scope import Scope


class Cache(Protocol):
    """Bytes by key, with an expiry. Losing all of it costs only speed; no fact is stored only here.

    All methods but `facts` and `close` raise CacheUnavailable, within tens of milliseconds. They
    are safe to cancel at any moment: no response ever reaches another caller.
    """

    async def fetch(self, key: CacheKey) -> bytes | None:
        """The value as it was stored by any process; None if there is none."""
        ...

    async def store(self, key: CacheKey, value: bytes, *, ttl_seconds: float) -> None:
        """Store a value with a maximum age; it may be evicted earlier, or be too large to store."""
        ...

    async def claim(self, key: CacheKey, *, token: str, seconds: float) -> bool:
        """Acquire this name for so many seconds; False if another holder has it."""
        ...

    async def renew(self, key: CacheKey, *, token: str, seconds: float) -> None:
        """Extend a claim to so many seconds from now.

        A name that is free, or that another caller has claimed since, is unchanged.
        """
        ...

    async def let_go(self, key: CacheKey, *, token: str) -> None:
        """Release a claimed name; a name that another caller has claimed since is unchanged."""
        ...

    async def drop_all(self, kind: EntryKind, owner: str) -> int:
        """Drop every entry of an owner; how many. To be used rarely: it may scan every key,
        which takes seconds if there are many.
        """
        ...

    async def facts(self) -> CacheFacts:
        """The cache's state; never raises."""
        ...

    async def close(self) -> None:
        """Free what is held. Repeating it is harmless."""
        ...


class CacheLedger(Protocol):
    """Counts of all processes. Raises StoreUnavailable."""

    async def add(self, counts: Mapping[datetime, CacheCounts]) -> None:
        """Add what was counted, by full hour."""
        ...

    async def since(self, hour: datetime) -> CacheCounts:
        """The sum from that hour on."""
        ...


class CacheHits(Protocol):
    """How often the cache had an entry."""

    async def last_day(self) -> CacheCounts:
        """Of all processes, over 24 hours. Raises StoreUnavailable."""
        ...


class ScopeCache(Protocol):
    """Cached results of a user outside the database."""

    async def forget(self, scope: Scope) -> int:
        """Drop them; how many there were. Never raises: entries left behind expire."""
        ...
