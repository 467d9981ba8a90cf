# Generated from relations.py in `asynchronous`; change it there, then `make format`.

"""Relations between a user's blocks, and decisions about them."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from luma_memory.client.calls import read, segment, write
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.domain.relation import RelationStatus, RelationType
from luma_memory.protocol.relations import RelationBody, RelationPageBody


class Relations(Connection):
    """Relations of one user, detected by workers if MEMORY_RELATIONS_ENABLED is true."""

    def list_relations(
        self,
        user_id: str,
        *,
        relation_type: RelationType | None = None,
        status: RelationStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> RelationPageBody:
        """One page of a user's relations, newest first."""
        call = read(
            "/relations",
            user_id=user_id,
            type=relation_type,
            status=status,
            limit=limit,
            cursor=cursor,
        )
        return parsed(RelationPageBody, self._send(call))

    def iterate_relations(
        self,
        user_id: str,
        *,
        relation_type: RelationType | None = None,
        status: RelationStatus | None = None,
        page_size: int | None = None,
    ) -> Iterator[RelationBody]:
        """All relations of a user, newest first, fetched page by page."""
        cursor: str | None = None
        while True:
            page = self.list_relations(
                user_id, relation_type=relation_type, status=status, limit=page_size, cursor=cursor
            )
            for relation in page.relations:
                yield relation
            if (cursor := page.next_cursor) is None:
                return

    def list_block_relations(
        self,
        block_id: UUID,
        *,
        user_id: str,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> RelationPageBody:
        """One page of a block's relations in both directions, newest first."""
        call = read(
            f"/blocks/{segment(block_id)}/relations", user_id=user_id, limit=limit, cursor=cursor
        )
        return parsed(RelationPageBody, self._send(call))

    def iterate_block_relations(
        self, block_id: UUID, *, user_id: str, page_size: int | None = None
    ) -> Iterator[RelationBody]:
        """All relations of a block, newest first, fetched page by page."""
        cursor: str | None = None
        while True:
            page = self.list_block_relations(
                block_id, user_id=user_id, limit=page_size, cursor=cursor
            )
            for relation in page.relations:
                yield relation
            if (cursor := page.next_cursor) is None:
                return

    def decide_relation(
        self,
        relation_id: UUID,
        status: RelationStatus,
        *,
        user_id: str,
        idempotency_key: str | None = None,
    ) -> RelationBody:
        """Accept or reject a relation permanently; later detection does not change the decision.

        Rejecting a `supersedes` or `contradicts` returns the older block to recall.
        """
        call = write(
            "PATCH",
            f"/relations/{segment(relation_id)}",
            {"status": status},
            idempotency_key=idempotency_key,
            user_id=user_id,
        )
        return parsed(RelationBody, self._send(call))
