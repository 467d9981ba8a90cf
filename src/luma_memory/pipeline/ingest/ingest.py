"""Accept blocks: split, index, commit; optionally enrich at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from luma_memory.concurrency.contention import WAIT_SECONDS_MAX, ContentionAware
from luma_memory.concurrency.parted import Batches, parted
from luma_memory.concurrency.retries import retry_until
from luma_memory.domain.block import Accepted, Block, IngestItem, NewBlock
from luma_memory.domain.clock import Clock
from luma_memory.domain.errors import (
    Invalid,
    LumaMemoryError,
    NotFound,
    StoreContended,
    StoreUnavailable,
    is_outage,
)
from luma_memory.domain.ids import IdMaker
from luma_memory.domain.job import Job
from luma_memory.domain.partition import HOME
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.ports.blocks import BlockStore, Lease
from luma_memory.ports.jobs import JobSignal
from luma_memory.telemetry import spans

ResultT = TypeVar("ResultT")

# Limits of one statement: far above a typical batch, and low enough that a statement takes tens of
# milliseconds.
STATEMENT_BLOCKS_MAX = 500
STATEMENT_CHARACTERS_MAX = 2_000_000
# Batches have their own statements, so that a single block never queues behind thousands.
BATCH_STATEMENTS_MAX = 2
# Blocks of one batch that are enriched concurrently while its caller waits.
BATCH_CONCURRENT_MAX = 5
# Indexing takes about 2 ms for this many characters; a thread costs a tenth of that.
INLINE_CHARACTERS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Ingested:
    """A block that its caller waited for: as stored now, and how it was accepted."""

    accepted: Accepted
    block: Block


class Ingest:
    """The entry point of the pipeline.

    Blocks that arrive while a statement is in flight share the next one. Only calls that return the
    enriched block wait for a model.
    """

    def __init__(
        self,
        store: BlockStore,
        *,
        clock: Clock,
        signal: JobSignal,
        run_job: Callable[[Job], Awaitable[None]],
        worker_id: str,
        lease: timedelta,
        attempts_max: int,
        part_of: Callable[[Scope], int] | None = None,
    ) -> None:
        """part_of: the partition of a user, whose blocks have statements of their own; None if
        there is one partition."""
        self._store = store
        self._part_of = part_of
        self._clock = clock
        self._signal = signal
        self._run_job = run_job
        self._lease = Lease(worker_id, lease)
        self._attempts_max = attempts_max
        self._ids = IdMaker()
        self._single = self._statements(batches_max=1)
        self._batches = self._statements(batches_max=BATCH_STATEMENTS_MAX)

    @spans.traced("ingest")
    async def ingest_block_async(self, block: NewBlock) -> Accepted:
        """Accept a block; a worker enriches it. Returns once it is committed with its job.

        Raises Invalid (code idempotency_key_reused) when the key came with another request before,
        StoreUnavailable when PostgreSQL does not respond: then nothing was accepted.
        """
        (item,) = await self._items([block])
        accepted = _checked(await self._single.submit(item), block)
        self._signal.notify(block.scope)
        spans.current().set({"luma.block.id": accepted.id, "luma.job.id": accepted.job_id})
        return accepted

    @spans.traced("ingest batch")
    async def ingest_batch_async(
        self, blocks: Sequence[NewBlock]
    ) -> Sequence[Accepted | Exception]:
        """Accept blocks; returns one result or error each, in order.

        Raises StoreUnavailable when it is the result of all of them.
        """
        results = await self._batches.submit_all(await self._items(blocks))
        self._signal.notify(*{block.scope for block in blocks})
        return _unless_all_unavailable(
            [
                result if isinstance(result, Exception) else _outcome(result, block)
                for result, block in zip(results, blocks, strict=True)
            ]
        )

    @spans.traced("ingest and wait")
    async def ingest_block(self, block: NewBlock) -> Ingested:
        """Accept a block and enrich it in this process before returning.

        The job is created already claimed by this process; if the process dies, a worker takes over
        when the lease expires. A failed attempt leaves the block accepted, pending and readable.
        """
        items = await self._items([block])
        (result,) = await retry_until(
            lambda: self._store.ingest(items, lease=self._lease),
            retry_on=StoreContended,
            timeout_seconds=WAIT_SECONDS_MAX,
        )
        if isinstance(result, Exception):
            raise result
        accepted = _checked(result, block)
        if accepted.created:
            await self._run_job(self._claimed(accepted, block.scope))
        return Ingested(accepted, await self._stored(block.scope, accepted.id))

    async def ingest_batch(self, blocks: Sequence[NewBlock]) -> Sequence[Ingested | Exception]:
        """`ingest_block` for each, a few concurrently; one result or error each, in order.

        Raises StoreUnavailable when it is the result of all of them.
        """
        turn = asyncio.Semaphore(BATCH_CONCURRENT_MAX)

        async def ingest_one(block: NewBlock) -> Ingested | Exception:
            async with turn:
                try:
                    return await self.ingest_block(block)
                except LumaMemoryError as error:
                    return error

        return _unless_all_unavailable(await asyncio.gather(*map(ingest_one, blocks)))

    async def close(self) -> None:
        """Wait until every call in progress has its result."""
        await self._single.close()
        await self._batches.close()

    def _statements(self, *, batches_max: int) -> Batches[IngestItem, Accepted]:
        def statements() -> Batches[IngestItem, Accepted]:
            return ContentionAware(
                self._commit,
                key_of=lambda item: item.block.scope,
                locked=self._store.locked_scopes,
                items_max=STATEMENT_BLOCKS_MAX,
                size_max=STATEMENT_CHARACTERS_MAX,
                size_of=lambda item: len(item.block.content),
                batches_max=batches_max,
                contended=StoreContended,
                is_shared=is_outage,
            )

        part_of = self._part_of
        return parted(
            statements, None if part_of is None else lambda item: part_of(item.block.scope)
        )

    async def _commit(self, items: Sequence[IngestItem]) -> Sequence[Accepted | Exception]:
        return await self._store.ingest(items, lease=None)

    async def _items(self, blocks: Sequence[NewBlock]) -> list[IngestItem]:
        """The items to store. Long text is indexed in a thread, not to block the event loop."""
        if sum(len(block.content) for block in blocks) <= INLINE_CHARACTERS_MAX:
            return [self._item(block) for block in blocks]
        return await asyncio.to_thread(lambda: [self._item(block) for block in blocks])

    def _item(self, block: NewBlock) -> IngestItem:
        return IngestItem(
            id=self._ids.make(),
            block=block,
            content_hash=hashlib.sha256(block.content.encode()).digest(),
            passages=index_passages(
                block.content, speaker=block.speaker, occurred_at=block.occurred_at
            ),
            traceparent=spans.traceparent(),
        )

    def _claimed(self, accepted: Accepted, scope: Scope) -> Job:
        return Job(
            id=accepted.job_id,
            scope=scope,
            job_type="enrich_and_embed",
            block_id=accepted.id,
            attempt=1,
            attempts_max=self._attempts_max,
            partition=HOME if self._part_of is None else self._part_of(scope),
        )

    async def _stored(self, scope: Scope, block_id: UUID) -> Block:
        (block,) = await self._store.read([(scope, block_id)])
        if block is None:
            raise NotFound(
                "The block was accepted and has since been deleted", code="block_not_found"
            )
        return block


def _unless_all_unavailable(
    results: Sequence[ResultT | Exception],
) -> Sequence[ResultT | Exception]:
    errors = [result for result in results if isinstance(result, StoreUnavailable)]
    if errors and len(errors) == len(results):
        raise errors[0]
    return results


def _checked(result: Accepted, block: NewBlock) -> Accepted:
    outcome = _outcome(result, block)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _outcome(result: Accepted, block: NewBlock) -> Accepted | Exception:
    # An external id identifies a thing, so a second block with it returns the first; an idempotency
    # key identifies one request.
    if result.created or result.same_request or block.idempotency_key is None:
        return result
    return Invalid(
        "This idempotency key was already used with another request",
        code="idempotency_key_reused",
        field="idempotency_key",
    )
