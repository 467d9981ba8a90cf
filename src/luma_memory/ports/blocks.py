"""Blocks: ingest, read, write-back of enrichment, edit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

from luma_memory.domain.block import (
    Accepted,
    BackfillStep,
    Block,
    BlockToEnrich,
    IngestItem,
    PassagePlace,
    PassageText,
)
from luma_memory.domain.enrichment import Enrichment, EnrichmentKind, Vector
from luma_memory.domain.job import Job
from luma_memory.domain.revision import RevisionPage
from luma_memory.domain.scope import Scope


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim taken while a block is accepted: its worker and duration."""

    worker_id: str
    duration: timedelta


@dataclass(frozen=True, slots=True)
class EnrichedPassage:
    """A passage with its vector, None when embedding is switched off or failed for good."""

    text: PassagePlace  # a PassageText, or the place of one that is stored already
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class PendingBackfill:
    """The steps that an active block lacks."""

    reason: str | None  # one sentence for the block's `error`
    steps: Sequence[BackfillStep] = ()  # the missing steps
    after: timedelta | None = None  # None: on request


@dataclass(frozen=True, slots=True)
class EnrichedBlock:
    """The result of one run of a job for one block."""

    job: Job
    revision: int  # of the block as it was read; an edit since then voids the result
    # None when enrichment is switched off: what is stored stays.
    enrichment: Enrichment | None
    kind: EnrichmentKind | None
    passages: Sequence[EnrichedPassage]
    embedding_model: str | None
    # The missing steps, the reason, and when to retry; None when no step is missing.
    pending_backfill: PendingBackfill | None = None


@dataclass(frozen=True, slots=True)
class BlockPage:
    """Blocks, newest first; `next_before` continues the list, None at its end."""

    blocks: Sequence[Block]
    next_before: UUID | None


class BlockStore(Protocol):
    """The blocks of all scopes. Every method takes the scope.

    All methods raise StoreUnavailable when PostgreSQL does not respond.
    """

    async def ingest(
        self, items: Sequence[IngestItem], *, lease: Lease | None
    ) -> Sequence[Accepted | Exception]:
        """Commit blocks, passages and jobs in one statement; one result per item, in order.

        With a lease the jobs are created already claimed by its worker, attempt 1.
        """
        ...

    async def locked_scopes(self, scopes: Collection[Scope]) -> Collection[Scope]:
        """The scopes whose rows another transaction has locked now: a write for them would wait."""
        ...

    async def read(self, keys: Sequence[tuple[Scope, UUID]]) -> Sequence[Block | None]:
        """The blocks in order of the keys; None for those not in that scope."""
        ...

    async def read_to_enrich(
        self, keys: Sequence[tuple[Scope, UUID]]
    ) -> Sequence[BlockToEnrich | None]:
        """`read` for the blocks' own jobs."""
        ...

    async def keep(
        self,
        worker_id: str,
        job: Job,
        enrichment: Enrichment,
        *,
        revision: int,
        kind: EnrichmentKind,
        pending_backfill: PendingBackfill | None,
    ) -> None:
        """Store derived facts of a block whose vectors are still to be computed; its job continues.

        Nothing changes if the job is no longer this worker's own attempt.
        """
        ...

    async def embedded_ordinals(
        self, scope: Scope, block_id: UUID, model_id: str
    ) -> Collection[int]:
        """Which passages of a block have a vector of this model."""
        ...

    async def store_vectors(
        self,
        scope: Scope,
        block_id: UUID,
        vectors: Mapping[int, Vector],
        *,
        revision: int,
        model_id: str,
    ) -> int:
        """Store vectors by ordinal while the block's job continues; how many passages took one.

        None of a block that was edited after `revision`.
        """
        ...

    async def write_back(self, worker_id: str, results: Sequence[EnrichedBlock]) -> Sequence[bool]:
        """Store results and complete their jobs in one statement.

        False where the job was no longer this worker's own attempt: nothing was changed there.
        """
        ...


class BlockEditor(Protocol):
    """What clients change after a block was accepted. All methods raise StoreUnavailable."""

    async def edit(
        self,
        scope: Scope,
        block_id: UUID,
        *,
        revision: int,
        changed_by: str,
        changes: Mapping[str, Any],
        content_hash: bytes | None,
        passages: Sequence[PassageText] | None,
    ) -> bool:
        """Change a block that still has this revision; False if it has another one, or is gone.

        changes: columns by name. content_hash: None keeps it. passages: those of the new text,
        which is enriched again; None if the text is unchanged.
        """
        ...

    async def delete(
        self, scope: Scope, block_id: UUID, *, revision: int | None
    ) -> Literal["deleted", "missing", "stale"]:
        """Delete a block and all references to it; "stale" if it has another revision."""
        ...

    async def revisions(
        self, scope: Scope, block_id: UUID, *, below: int | None, limit: int
    ) -> RevisionPage:
        """Former versions of a block, newest first; empty for an unknown one."""
        ...
