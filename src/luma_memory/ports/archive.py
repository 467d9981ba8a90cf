"""Erasure, export and import of everything a scope holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from luma_memory.domain.erasure import Erasure
from luma_memory.domain.scope import Scope


@dataclass(frozen=True, slots=True)
class Remains:
    """Rows that name a user now."""

    counts: Mapping[str, int]  # rows by kind; no count is 0
    stored_since: datetime | None  # creation of the user's own row


class EraserStore(Protocol):
    """Erases all data of a user for good. All methods raise StoreUnavailable."""

    async def sweep_jobs(self, scope: Scope) -> tuple[int, int]:
        """Delete the user's jobs in small steps; how many, and up to which job id."""
        ...

    async def erase(
        self,
        scope: Scope,
        *,
        erasure_id: UUID,
        key_digest: bytes | None,
        started_at: datetime,
        last_job: int,
        swept: int,
        cached: int,
    ) -> Erasure | None:
        """Delete everything else in one transaction and record the erasure.

        None if an erasure with that key exists already: nothing was changed. Raises
        StoreContended when a job of the user is being ended at this moment.
        """
        ...

    async def find(
        self, scope: Scope, *, erasure_id: UUID | None, key: bytes | None
    ) -> Erasure | None:
        """An erasure by its id or by the digest of its key."""
        ...

    async def remains(self, scope: Scope) -> Remains:
        """The rows that name the user now."""
        ...


class Archive(Protocol):
    """Export and import of all rows of a user. All methods raise StoreUnavailable."""

    def rows(self, scope: Scope) -> AsyncIterator[tuple[str, Sequence[str]]]:
        """Kinds of rows with pages of them as JSON, in an order in which they can be stored."""
        ...

    async def store(self, scope: Scope, kind: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store rows of a kind; how many did not exist yet. Raises Invalid."""
        ...

    async def dimension(self, scope: Scope, model: str) -> int | None:
        """The dimension of the user's vectors of a model; None without any."""
        ...
