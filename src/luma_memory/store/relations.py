"""Relations in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from luma_memory.domain.enrichment import Entity
from luma_memory.domain.ids import IdMaker
from luma_memory.domain.job import Job
from luma_memory.domain.local_time import at_offset
from luma_memory.domain.relation import (
    Admission,
    Candidate,
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
from luma_memory.postgres.database import Database
from luma_memory.postgres.instants import aware
from luma_memory.postgres.sql_files import SqlFile

_SQL = SqlFile(__name__)

# Candidates per reason; together at most about twenty.
_BY_REASON: Final = 5


class PostgresRelationStore:
    """`ports.relations.RelationStore` on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids = IdMaker()

    async def candidates(self, scope: Scope, block_id: UUID) -> RelationRequest | None:
        rows = await self._database.fetch(
            _SQL["relation_candidates"],
            scope.project_id,
            scope.user_id,
            block_id,
            _BY_REASON,
        )
        if not rows:
            return None
        return RelationRequest(_block(rows[0]), [_candidate(row) for row in rows[1:]])

    async def admit(self, worker_id: str, job: Job, *, limit: int, window: timedelta) -> Admission:
        statement = _SQL["admit_relations"]
        row = await self._database.fetch_row(
            statement, worker_id, job.id, job.attempt, limit, window
        )
        assert row is not None
        return Admission(**dict(row))

    async def store(
        self,
        worker_id: str,
        job: Job,
        relations: Sequence[NewRelation],
        read: Sequence[RelationBlock],
        *,
        model: str,
    ) -> int | None:
        row = await self._database.fetch_row(
            _SQL["store_relations"],
            worker_id,
            job.id,
            job.attempt,
            job.scope.project_id,
            job.scope.user_id,
            [self._ids.make() for _ in relations],
            [relation.source_id for relation in relations],
            [relation.target_id for relation in relations],
            [relation.type for relation in relations],
            [relation.confidence for relation in relations],
            [relation.evidence for relation in relations],
            model,
            [block.id for block in read],
            [block.revision for block in read],
        )
        assert row is not None
        return int(row["stored"]) if row["is_mine"] else None

    async def decide(
        self, scope: Scope, relation_id: UUID, status: RelationStatus, *, decided_by: str
    ) -> Relation | None:
        row = await self._database.fetch_row(
            _SQL["decide_relation"],
            scope.project_id,
            scope.user_id,
            relation_id,
            status,
            decided_by,
        )
        if row is None or not row["found"]:
            return None
        found = await self._page(scope, relation_id=relation_id, limit=1)
        return found[0] if found else None

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
        found = await self._page(
            scope,
            before=before,
            block_id=block_id,
            relation_type=relation_type,
            status=status,
            limit=limit + 1,
        )
        shown = found[:limit]
        return RelationPage(shown, shown[-1].id if len(found) > limit else None)

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
        row = await self._database.fetch_row(
            _SQL["enqueue_relations"],
            project_id,
            user_id,
            after.scope.project_id,
            after.scope.user_id,
            after.block_id,
            limit,
            attempts_max,
            is_trial,
        )
        if row is None:
            return None
        scope = Scope(row["project_id"], row["user_id"])
        return row["enqueued"], RelationCursor(scope, row["id"])

    async def links(self, scope: Scope, block_ids: Sequence[UUID], *, limit: int) -> Sequence[Link]:
        rows = await self._database.fetch(
            _SQL["relation_links"],
            scope.project_id,
            scope.user_id,
            list(block_ids),
            limit,
        )
        return [Link(**dict(row)) for row in rows]

    async def _page(
        self,
        scope: Scope,
        *,
        limit: int,
        before: UUID | None = None,
        block_id: UUID | None = None,
        relation_type: RelationType | None = None,
        status: RelationStatus | None = None,
        relation_id: UUID | None = None,
    ) -> list[Relation]:
        rows = await self._database.fetch(
            _SQL["page_relations"],
            scope.project_id,
            scope.user_id,
            before,
            block_id,
            relation_type,
            status,
            relation_id,
            limit,
        )
        return [Relation(**dict(row)) for row in rows]


def _block(row: asyncpg.Record) -> RelationBlock:
    return RelationBlock(
        id=row["id"],
        revision=row["revision"],
        content=row["content"],
        occurred_at=at_offset(aware(row["occurred_at"]), row["utc_offset_minutes"]),
        created_at=row["created_at"],
        session_id=row["session_id"],
        speaker=row["speaker"],
        entities=tuple(Entity(**entity) for entity in row["entities"]),
    )


def _candidate(row: asyncpg.Record) -> Candidate:
    return Candidate(_block(row), row["similarity"], row["overlap"], row["is_previous"])
