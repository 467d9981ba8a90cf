"""Accept blocks: cut, weigh, commit; optionally enrich at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from luma_memory.concurrency.contention import PATIENCE_SECONDS, ContentionAware
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
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.ingest.indexing import index_passages
from luma_memory.ports.blocks import BlockStore, Lease
from luma_memory.ports.jobs import JobSignal
from luma_memory.telemetry import spans

ResultT = TypeVar("ResultT")

# One statement takes at most this many blocks and characters: far above what one arrival brings,
# low enough that a statement stays in the tens of milliseconds.
FLIGHT_BLOCKS_MAX = 500
FLIGHT_CHARACTERS_MAX = 2_000_000
# Batches have a lane of their own, so that a lone block never queues behind thousands.
BATCH_FLIGHTS_MAX = 2
# Blocks of one batch that are enriched at once while its caller waits.
BATCH_WAITED_FOR_MAX = 5
# About 2 ms of weighing; a thread costs a tenth of that.
INLINE_CHARACTERS_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Ingested:
    """A block that was waited for: as it is stored now, and the answer it was accepted with."""

    accepted: Accepted
    block: Block


class Ingest:
    """The door of the pipeline.

    Blocks that arrive while a statement is in flight share the next one. Nothing here waits for a
    model, unless the caller asks for the enriched block.
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
    ) -> None:
        self._store = store
        self._clock = clock
        self._signal = signal
        self._run_job = run_job
        self._lease = Lease(worker_id, lease)
        self._attempts_max = attempts_max
        self._ids = IdMaker()
        self._flights = self._statements(batches_max=1)
        self._batches = self._statements(batches_max=BATCH_FLIGHTS_MAX)

    @spans.traced("ingest")
    async def ingest_block_async(self, block: NewBlock) -> Accepted:
        """Accept a block; a worker enriches it. Returns once it is committed with its job.

        Raises Invalid (code idempotency_key_reused) when the key came with another request before,
        StoreUnavailable when PostgreSQL does not answer: then nothing is promised.
        """
        (item,) = await self._items([block])
        accepted = _checked(await self._flights.submit(item), block)
        self._signal.notify()
        spans.current().set({"luma.block.id": accepted.id, "luma.job.id": accepted.job_id})
        return accepted

    @spans.traced("ingest batch")
    async def ingest_batch_async(
        self, blocks: Sequence[NewBlock]
    ) -> Sequence[Accepted | Exception]:
        """Accept blocks; one answer or error each, in order.

        Raises StoreUnavailable when PostgreSQL answered for none of them.
        """
        answers = await self._batches.submit_all(await self._items(blocks))
        self._signal.notify()
        return _unless_all_unavailable(
            [
                answer if isinstance(answer, Exception) else _outcome(answer, block)
                for answer, block in zip(answers, blocks, strict=True)
            ]
        )

    @spans.traced("ingest and wait")
    async def ingest_block(self, block: NewBlock) -> Ingested:
        """Accept a block and wait until it is enriched, here and now.

        The job is born claimed by this process: should it die, a worker takes the block over when
        the lease ends. A failed attempt leaves the block accepted, pending and readable.
        """
        items = await self._items([block])
        (answer,) = await retry_until(
            lambda: self._store.ingest(items, lease=self._lease),
            retry_on=StoreContended,
            timeout_seconds=PATIENCE_SECONDS,
        )
        if isinstance(answer, Exception):
            raise answer
        accepted = _checked(answer, block)
        if accepted.created:
            await self._run_job(self._claimed(accepted, block.scope))
        return Ingested(accepted, await self._stored(block.scope, accepted.id))

    async def ingest_batch(self, blocks: Sequence[NewBlock]) -> Sequence[Ingested | Exception]:
        """`ingest_block` for each, a few at once; one answer or error each, in order.

        Raises StoreUnavailable when PostgreSQL answered for none of them.
        """
        turn = asyncio.Semaphore(BATCH_WAITED_FOR_MAX)

        async def ingest_one(block: NewBlock) -> Ingested | Exception:
            async with turn:
                try:
                    return await self.ingest_block(block)
                except LumaMemoryError as error:
                    return error

        return _unless_all_unavailable(await asyncio.gather(*map(ingest_one, blocks)))

    async def close(self) -> None:
        """Wait until every accepted block has its answer."""
        await self._flights.close()
        await self._batches.close()

    def _statements(self, *, batches_max: int) -> ContentionAware[IngestItem, Accepted, Scope]:
        return ContentionAware(
            self._commit,
            key_of=lambda item: item.block.scope,
            locked=self._store.locked_scopes,
            items_max=FLIGHT_BLOCKS_MAX,
            size_max=FLIGHT_CHARACTERS_MAX,
            size_of=lambda item: len(item.block.content),
            batches_max=batches_max,
            contended=StoreContended,
            is_shared=is_outage,
        )

    async def _commit(self, items: Sequence[IngestItem]) -> Sequence[Accepted | Exception]:
        return await self._store.ingest(items, lease=None)

    async def _items(self, blocks: Sequence[NewBlock]) -> list[IngestItem]:
        """Ready to store. Much text is weighed in a thread, so that other requests go on."""
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
        )

    async def _stored(self, scope: Scope, block_id: UUID) -> Block:
        (block,) = await self._store.read([(scope, block_id)])
        if block is None:
            raise NotFound("The block was accepted and is deleted by now", code="block_not_found")
        return block


def _unless_all_unavailable(
    answers: Sequence[ResultT | Exception],
) -> Sequence[ResultT | Exception]:
    errors = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
    if errors and len(errors) == len(answers):
        raise errors[0]
    return answers


def _checked(answer: Accepted, block: NewBlock) -> Accepted:
    outcome = _outcome(answer, block)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _outcome(answer: Accepted, block: NewBlock) -> Accepted | Exception:
    # An external id is the client's name for the thing, so a second description of it is answered
    # with the first; an idempotency key is the name of one request.
    if answer.created or answer.same_request or block.idempotency_key is None:
        return answer
    return Invalid(
        "This idempotency key was used before with another request",
        code="idempotency_key_reused",
        field="idempotency_key",
    )
