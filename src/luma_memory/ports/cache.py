"""The context cache and its counters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from luma_memory.domain.cache import CacheCounts, CacheFacts, CacheKey, EntryKind
from luma_memory.domain.scope import Scope


class Cache(Protocol):
    """Bytes by key, for a while. Losing all of it costs only speed; it holds no fact alone.

    All methods but `facts` and `close` raise CacheUnavailable, within tens of milliseconds. They
    are safe to cancel at any moment: no later answer belongs to another asker.
    """

    async def fetch(self, key: CacheKey) -> bytes | None:
        """The value as it was stored, by anybody; None when there is none."""
        ...

    async def store(self, key: CacheKey, value: bytes, *, ttl_seconds: float) -> None:
        """Keep a value for at most so long; it may go earlier. A value too large is not kept."""
        ...

    async def claim(self, key: CacheKey, *, token: str, seconds: float) -> bool:
        """Whether nobody else holds this name; if so, it is the caller's for so long."""
        ...

    async def renew(self, key: CacheKey, *, token: str, seconds: float) -> None:
        """Extend a claim to so long from now; a name that another caller has claimed since, or that
        nobody holds, is unchanged.
        """
        ...

    async def let_go(self, key: CacheKey, *, token: str) -> None:
        """Release a claimed name; a name that another caller has claimed since is unchanged."""
        ...

    async def drop_all(self, kind: EntryKind, owner: str) -> int:
        """Drop every entry of an owner; how many. For once in a while: it may look at every key,
        and takes seconds where there are many.
        """
        ...

    async def facts(self) -> CacheFacts:
        """How it is; never raises."""
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
    """How often the cache had the answer."""

    async def last_day(self) -> CacheCounts:
        """Of all processes, over 24 hours. Raises StoreUnavailable."""
        ...


class ScopeCache(Protocol):
    """What is kept of a user outside the database, to answer faster."""

    async def forget(self, scope: Scope) -> int:
        """Drop it; how many entries there were. Never raises: what stays behind expires."""
        ...
