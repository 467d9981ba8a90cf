"""Relations between blocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from luma_memory.domain.job import Job
from luma_memory.domain.relation import (
    Admission,
    Link,
    NewRelation,
    Relation,
    RelationBlock,
    RelationCursor,
    RelationPage,
    RelationRequest,
    RelationStatus,
    RelationType,
)
from luma_memory.domain.scope import Scope


class RelationStore(Protocol):
    """Relations and their effects. All methods raise StoreUnavailable."""

    async def candidates(self, scope: Scope, block_id: UUID) -> RelationRequest | None:
        """An active block with candidates for relations; None if it does not exist."""
        ...

    async def admit(self, worker_id: str, job: Job, *, limit: int, window: timedelta) -> Admission:
        """Take one of the user's detections of a window, or a place in a later one."""
        ...

    async def store(
        self,
        worker_id: str,
        job: Job,
        relations: Sequence[NewRelation],
        read: Sequence[RelationBlock],
        *,
        model: str,
    ) -> int | None:
        """Store relations of blocks unchanged since they were read, and complete the job.

        How many are new; None when the job is no longer this worker's: nothing was changed.
        """
        ...

    async def decide(
        self, scope: Scope, relation_id: UUID, status: RelationStatus, *, decided_by: str
    ) -> Relation | None:
        """Accept or reject; None when there is no such relation."""
        ...

    async def page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: UUID | None,
        block_id: UUID | None,
        relation_type: RelationType | None,
        status: RelationStatus | None,
    ) -> RelationPage:
        """Relations of a scope, or of one of its blocks, newest first."""
        ...

    async def enqueue_page(
        self,
        after: RelationCursor,
        *,
        project_id: str | None,
        user_id: str | None,
        limit: int,
        attempts_max: int,
        is_trial: bool,
    ) -> tuple[int, RelationCursor] | None:
        """Enqueue detections for active blocks that never had one; None at the end of all.

        How many of the next `limit` blocks got one (is_trial: would get), and where to continue.
        """
        ...

    async def links(self, scope: Scope, block_ids: Sequence[UUID], *, limit: int) -> Sequence[Link]:
        """Accepted relations of these blocks other than `related`, the most certain first."""
        ...
