"""What recall reads of a scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from luma_memory.domain.scope import Scope
from luma_memory.domain.search import (
    LookUp,
    RowKind,
    ScanRequest,
    ScopeMark,
    ScopeRows,
    ScopeScan,
    Selection,
)


class SearchStore(Protocol):
    """Raw scores for recall."""

    async def scan(self, scope: Scope, request: ScanRequest) -> ScopeScan:
        """Score every live passage and window of the scope in one statement."""
        ...

    async def own_speaker(self, scope: Scope) -> str | None:
        """The user's name as a speaker of recent blocks: the user id, or a name that begins with
        it, whatever the case. Raises StoreUnavailable."""
        ...


class SnapshotStore(Protocol):
    """Reads the data of a scope's snapshot in memory. All methods raise StoreUnavailable."""

    async def look_up(
        self,
        scope: Scope,
        model: str,
        names: Sequence[str],
        mark: ScopeMark,
        selection: Selection,
        also: bytes = b"",
    ) -> LookUp:
        """The scope's state, and what has changed since `mark`, in one statement.

        selection: which rows; the blocks that match its filters are returned as well. also: ids of
        further blocks, 16 bytes each, that count as changed.
        """
        ...

    async def page(
        self,
        scope: Scope,
        model: str,
        kind: RowKind,
        *,
        after: tuple[UUID, int] | None,
        limit: int,
    ) -> RowPage:
        """Rows in order of block and ordinal."""
        ...

    async def erased(self, read_at: Mapping[Scope, int]) -> Sequence[Scope]:
        """Those of the scopes whose user was erased since, even if created again."""
        ...


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows of a scope, and where the next page begins; None at the end."""

    rows: ScopeRows
    next_after: tuple[UUID, int] | None


@dataclass(frozen=True, slots=True)
class ScopeState:
    """What a result of a scope depends on besides the query."""

    # Rises with every visible change, and a number never comes twice. 0: nothing was ever stored.
    version: int
    read_at: datetime  # by the database's clock, which also decides what has expired
    next_expiry_at: datetime | None  # the earliest after `read_at` in the scope


class ScopeVersions(Protocol):
    """Reads the version of a scope."""

    async def state(self, scope: Scope) -> ScopeState:
        """The current state, with every write committed before the call. One short lookup.

        Raises StoreUnavailable.
        """
        ...
