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
    """What names a user now."""

    counts: Mapping[str, int]  # rows by what they are; none is 0
    stored_since: datetime | None  # since when there is a row of the user's own


class EraserStore(Protocol):
    """Everything of a user, for good. All methods raise StoreUnavailable."""

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
        """Delete everything else in one transaction and write down that it happened.

        None when an erasure with that key is there already: nothing was changed. Raises
        StoreContended when a job of the user is being ended at this moment.
        """
        ...

    async def find(
        self, scope: Scope, *, erasure_id: UUID | None, key: bytes | None
    ) -> Erasure | None:
        """An erasure by its id or by the digest of its key."""
        ...

    async def remains(self, scope: Scope) -> Remains:
        """What names the user now."""
        ...


class Archive(Protocol):
    """All rows of a user, out and in again. All methods raise StoreUnavailable."""

    def rows(self, scope: Scope) -> AsyncIterator[tuple[str, Sequence[str]]]:
        """Kinds of rows and pages of them as JSON texts, in the order they can be stored again."""
        ...

    async def store(self, scope: Scope, kind: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Store rows of a kind; how many were not there yet. Raises Invalid."""
        ...

    async def dimension(self, scope: Scope, model: str) -> int | None:
        """Of the user's vectors of a model; None where there are none."""
        ...
