# Generated from blocks.py in `asynchronous`; change it there, then `make format`.

"""Memory blocks: store, wait for, read, list, edit, delete."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from luma_memory.client.batches import in_batches
from luma_memory.client.calls import encoded, new_key, plain, read, segment, without_none, write
from luma_memory.client.responses import parsed
from luma_memory.client.synchronous.connection import Connection
from luma_memory.client.waiting import (
    ENRICHED_SECONDS,
    Accepted,
    is_enriched,
    next_pause,
    still_pending,
)
from luma_memory.domain.block import BlockStatus
from luma_memory.protocol.blocks import (
    AcceptedBody,
    BatchItem,
    BatchResponse,
    BlockBody,
    BlockEditBody,
    BlockPageBody,
    NewBlockBody,
    RevisionBody,
    RevisionPageBody,
)
from luma_memory.protocol.deletions import DeleteBlocksResponse

# Thousands of blocks, each with all that refers to it.
_BULK_SECONDS = 120.0


class Blocks(Connection):
    """Blocks of one user at a time; another user's blocks raise NotFound.

    A block is passed as NewBlockBody, or as a mapping with the same names.
    """

    def ingest_block_async(
        self, block: NewBlockBody | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> AcceptedBody:
        """Store a block; return once it is committed. It can be read and searched immediately.

        idempotency_key: repeating the request with the same key returns the same response.
        """
        call = write("POST", "/blocks", plain(block), idempotency_key=idempotency_key)
        return parsed(Accepted, self._send(call)).body()

    def ingest_block(
        self,
        block: NewBlockBody | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        timeout_seconds: float = ENRICHED_SECONDS,
    ) -> BlockBody:
        """Store a block and return it enriched. Also requires the permission `read`.

        Raises as `wait_until_active`. An error after the block was accepted does not undo it: the
        block is stored, and a worker continues with it.
        """
        call = write(
            "POST",
            "/blocks",
            plain(block),
            idempotency_key=idempotency_key,
            timeout_seconds=timeout_seconds,
            wait=True,
        )
        content = self._send(call)
        accepted = parsed(Accepted, content)
        if accepted.status == "pending_enrichment":
            user_id = str(plain(block)["user_id"])
            return self.wait_until_active(
                accepted.id, user_id=user_id, timeout_seconds=timeout_seconds
            )
        stored = parsed(BlockBody, content)
        is_enriched(stored)
        return stored

    def ingest_batch_async(
        self,
        blocks: Sequence[NewBlockBody | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> BatchResponse:
        """Store up to 1,000 blocks in one request; one outcome per block, in the same order."""
        body = {"blocks": [plain(block) for block in blocks]}
        call = write("POST", "/blocks/batch", body, idempotency_key=idempotency_key)
        return parsed(BatchResponse, self._send(call))

    def ingest_many(
        self,
        blocks: Iterable[NewBlockBody | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> Iterator[BatchItem]:
        """Store any number of blocks, up to 200 per request; yields each block's outcome.

        Memory use does not grow with their number. `index` counts across requests.
        idempotency_key: repeating the call with the same blocks in the same order stores them once.
        """
        name, sent = idempotency_key or new_key(), 0
        for number, batch in enumerate(in_batches(blocks)):
            response = self.ingest_batch_async(batch, idempotency_key=f"{name}:{number}")
            for item in response.results:
                yield item.model_copy(update={"index": sent + item.index})
            sent += len(batch)

    def wait_until_active(
        self, block_id: UUID, *, user_id: str, timeout_seconds: float = ENRICHED_SECONDS
    ) -> BlockBody:
        """The block, once it is enriched.

        Raises RejectedError (code enrichment_failed) if enrichment failed permanently,
        UnavailableError (code still_pending) after the timeout.
        """
        until, pause_seconds = time.monotonic() + timeout_seconds, 0.0
        while True:
            block = self.get_block(block_id, user_id=user_id)
            if is_enriched(block):
                return block
            pause_seconds = next_pause(pause_seconds)
            if time.monotonic() + pause_seconds > until:
                raise still_pending(block_id, timeout_seconds)
            time.sleep(pause_seconds)

    def wait_until_all_active(
        self,
        block_ids: Iterable[UUID],
        *,
        user_id: str,
        timeout_seconds: float = ENRICHED_SECONDS,
    ) -> list[BlockBody]:
        """The blocks in the order of `block_ids`, once all are enriched.

        Raises as `wait_until_active`.
        """
        until = time.monotonic() + timeout_seconds
        return [
            self.wait_until_active(
                block_id,
                user_id=user_id,
                timeout_seconds=max(0.0, until - time.monotonic()),
            )
            for block_id in block_ids
        ]

    def get_block(self, block_id: UUID, *, user_id: str) -> BlockBody:
        """One block."""
        call = read(f"/blocks/{segment(block_id)}", user_id=user_id)
        return parsed(BlockBody, self._send(call))

    def list_blocks(
        self,
        user_id: str | None = None,
        *,
        filters: Mapping[str, Any] | None = None,
        status: BlockStatus | None = None,
        session_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> BlockPageBody:
        """One page of blocks, newest first: of a user, or of all users of the project.

        filters: as of `search`. A page may be short or empty and still have a `next_cursor`.
        """
        call = read(
            "/blocks",
            user_id=user_id,
            filters=None if filters is None else encoded(filters).decode(),
            status=status,
            session_id=session_id,
            limit=limit,
            cursor=cursor,
        )
        return parsed(BlockPageBody, self._send(call))

    def iterate_blocks(
        self,
        user_id: str | None = None,
        *,
        filters: Mapping[str, Any] | None = None,
        status: BlockStatus | None = None,
        session_id: str | None = None,
        page_size: int | None = None,
    ) -> Iterator[BlockBody]:
        """All blocks that `list_blocks` has, newest first, fetched page by page."""
        cursor: str | None = None
        while True:
            page = self.list_blocks(
                user_id,
                filters=filters,
                status=status,
                session_id=session_id,
                limit=page_size,
                cursor=cursor,
            )
            for block in page.blocks:
                yield block
            if (cursor := page.next_cursor) is None:
                return

    def edit_block(
        self,
        block_id: UUID,
        changes: BlockEditBody | Mapping[str, Any],
        *,
        user_id: str,
        revision: int | None = None,
        idempotency_key: str | None = None,
    ) -> BlockBody:
        """Change a block: omitted fields keep their values, None clears one.

        revision: the revision the block must still have; otherwise raises PreconditionFailed (code
        revision_mismatch).
        """
        call = write(
            "PATCH",
            f"/blocks/{segment(block_id)}",
            plain(changes),
            idempotency_key=idempotency_key,
            revision=revision,
            user_id=user_id,
        )
        return parsed(BlockBody, self._send(call))

    def delete_block(
        self,
        block_id: UUID,
        *,
        user_id: str,
        revision: int | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Delete a block and all references to it. revision: as in `edit_block`."""
        call = write(
            "DELETE",
            f"/blocks/{segment(block_id)}",
            idempotency_key=idempotency_key,
            revision=revision,
            user_id=user_id,
        )
        self._send(call)

    def delete_blocks(
        self,
        *,
        user_id: str | None = None,
        filters: Mapping[str, Any] | None = None,
        status: BlockStatus | None = None,
        session_id: str | None = None,
        ids: Sequence[UUID] | None = None,
        all_blocks: bool = False,
        dry_run: bool = False,
        confirmation: str | None = None,
        idempotency_key: str | None = None,
    ) -> DeleteBlocksResponse:
        """Delete the blocks that match all conditions, in two steps.

        First with `dry_run`, which counts them; then the same call with its `confirmation`. One
        call deletes 2,000 at most: while `more`, repeat it with the confirmation of the response.
        Raises Conflict (code confirmation_outdated) if the blocks have changed since the count.
        """
        body = without_none(
            user_id=user_id,
            filters=filters,
            status=status,
            session_id=session_id,
            ids=ids,
            all=all_blocks or None,
            dry_run=dry_run or None,
            confirmation=confirmation,
        )
        call = write(
            "POST",
            "/blocks/delete",
            body,
            idempotency_key=idempotency_key,
            timeout_seconds=_BULK_SECONDS,
        )
        return parsed(DeleteBlocksResponse, self._send(call))

    def list_revisions(
        self, block_id: UUID, *, user_id: str, limit: int | None = None, cursor: str | None = None
    ) -> RevisionPageBody:
        """One page of a block's revisions, newest first."""
        call = read(
            f"/blocks/{segment(block_id)}/revisions", user_id=user_id, limit=limit, cursor=cursor
        )
        return parsed(RevisionPageBody, self._send(call))

    def iterate_revisions(
        self, block_id: UUID, *, user_id: str, page_size: int | None = None
    ) -> Iterator[RevisionBody]:
        """All revisions of a block, newest first."""
        cursor: str | None = None
        while True:
            page = self.list_revisions(block_id, user_id=user_id, limit=page_size, cursor=cursor)
            for revision in page.revisions:
                yield revision
            if (cursor := page.next_cursor) is None:
                return
