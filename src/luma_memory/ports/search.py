"""What recall reads of a scope."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ScanRequest, ScopeScan


class SearchStore(Protocol):
    """Raw scores for recall."""

    async def scan(self, scope: Scope, request: ScanRequest) -> ScopeScan:
        """Score every live passage and window of the scope in one statement."""
        ...


@dataclass(frozen=True, slots=True)
class ScopeState:
    """What an answer about a scope depends on besides the question."""

    # Rises with every visible change, and a number never comes twice. 0: nothing was ever stored.
    version: int
    read_at: datetime  # by the database's clock, which also decides what has expired
    next_expiry_at: datetime | None  # the earliest after `read_at` in the scope


class ScopeVersions(Protocol):
    """Whether anything changed."""

    async def state(self, scope: Scope) -> ScopeState:
        """As of now: every write that was committed before the call is in. One short look-up.

        Raises StoreUnavailable.
        """
        ...
