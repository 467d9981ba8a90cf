"""The job `enrich_and_embed`: read the block, enrich, embed, write back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from uuid import UUID

from luma_memory.domain.block import Block, PassageText
from luma_memory.domain.coalesce import Coalescer
from luma_memory.domain.enrichment import (
    Enrichment,
    EnrichmentKind,
    EnrichmentRequest,
    Vector,
)
from luma_memory.domain.errors import (
    ProviderTimeout,
    RateLimited,
    RejectedError,
    StoreUnavailable,
    UnavailableError,
)
from luma_memory.domain.job import Cancel, Done, Job, Outcome
from luma_memory.domain.ports import (
    BlockStore,
    Embedder,
    EnrichedBlock,
    EnrichedPassage,
    Enricher,
)
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.indexing import embedding_text, index_passages
from luma_memory.pipeline.patience import ResultT, until_available

READ_BATCH_MAX = 200
WRITE_BATCH_MAX = 100
# A restart of the database is waited out with the result in hand: a model call is not made twice.
PATIENCE_SECONDS = 10.0
# Vectors of one write-back: a block of 100,000 characters has some 200 passages.
WRITE_PASSAGES_MAX = 2_000


class EnrichBlock:
    """Handler of `enrich_and_embed`. Reads and write-backs of concurrent jobs share statements.

    enricher, embedder: None when that step is switched off; the block then becomes active without.
    fallback: who enriches on the last attempt when the provider fails, None to fail the block.
    provider_timeout: for enricher and embedder together, None for as long as the job may take.
    Below the job's own time, or a hanging provider leaves none for the fallback.
    """

    def __init__(
        self,
        store: BlockStore,
        *,
        worker_id: str,
        enricher: Enricher | None,
        embedder: Embedder | None,
        fallback: Enricher | None,
        provider_timeout: timedelta | None = None,
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._enricher = enricher
        self._embedder = embedder
        self._fallback = fallback
        self._provider_seconds = provider_timeout.total_seconds() if provider_timeout else None
        self._reads: Coalescer[tuple[Scope, UUID], Block | None] = Coalescer(
            store.read, items_max=READ_BATCH_MAX
        )
        self._writes: Coalescer[EnrichedBlock, bool] = Coalescer(
            self._write_back,
            items_max=WRITE_BATCH_MAX,
            size_max=WRITE_PASSAGES_MAX,
            size_of=lambda result: len(result.passages),
        )

    async def __call__(self, job: Job) -> Outcome:
        block_id = job.block_id
        if block_id is None:
            return Cancel("the job names no block")
        block = await _patiently(lambda: self._reads.submit((job.scope, block_id)))
        if block is None:
            return Done()  # a job whose block is gone is done
        result = await self._make(job, block)
        is_mine = await _patiently(lambda: self._writes.submit(result))
        return Done(is_written=True, is_mine=is_mine)

    async def _make(self, job: Job, block: Block) -> EnrichedBlock:
        passages = index_passages(
            block.content, speaker=block.speaker, occurred_at=block.occurred_at
        )
        try:
            enrichment, vectors = await self._provide(block, passages)
            kind = self._enricher.kind if self._enricher else None
        except (RateLimited, StoreUnavailable):
            raise
        except (UnavailableError, RejectedError) as error:
            is_hopeless = job.is_last_attempt or not error.retryable
            if self._fallback is None or not is_hopeless:
                raise
            enrichment, vectors, kind = await self._fall_back(self._fallback, block, passages)
        return EnrichedBlock(
            job=job,
            revision=block.revision,
            enrichment=enrichment,
            kind=kind,
            passages=[
                EnrichedPassage(passage, vector)
                for passage, vector in zip(passages, vectors, strict=True)
            ],
            embedding_model=self._model_of(vectors),
        )

    async def _provide(
        self, block: Block, passages: Sequence[PassageText]
    ) -> tuple[Enrichment | None, Sequence[Vector | None]]:
        try:
            async with asyncio.timeout(self._provider_seconds):
                return await _both(self._enrich(block), self._embed(block, passages))
        except TimeoutError as error:
            raise ProviderTimeout("The provider did not answer in time.") from error

    async def _enrich(self, block: Block) -> Enrichment | None:
        return await self._enricher.enrich(_request(block)) if self._enricher else None

    async def _embed(
        self, block: Block, passages: Sequence[PassageText]
    ) -> Sequence[Vector | None]:
        if self._embedder is None:
            return [None] * len(passages)
        texts = [
            embedding_text(block.content, passage, speaker=block.speaker) for passage in passages
        ]
        return [embedding.vector for embedding in await self._embedder.embed_documents(texts)]

    def _model_of(self, vectors: Sequence[Vector | None]) -> str | None:
        if self._embedder is None or all(vector is None for vector in vectors):
            return None
        return self._embedder.model.id

    async def _fall_back(
        self, fallback: Enricher, block: Block, passages: Sequence[PassageText]
    ) -> tuple[Enrichment, Sequence[Vector | None], EnrichmentKind]:
        # Vectors of another model could not be compared: until the provider is back, the block is
        # found by its words.
        return await fallback.enrich(_request(block)), [None] * len(passages), "fallback"

    async def _write_back(self, results: Sequence[EnrichedBlock]) -> Sequence[bool]:
        return await self._store.write_back(self._worker_id, results)


async def _patiently(attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
    return await until_available(attempt, patience_seconds=PATIENCE_SECONDS)


async def _both(
    enriching: Coroutine[None, None, Enrichment | None],
    embedding: Coroutine[None, None, Sequence[Vector | None]],
) -> tuple[Enrichment | None, Sequence[Vector | None]]:
    """Both at once; when one fails the other is stopped, and the failure is raised as itself."""
    # The embedding is on its way to its thread or socket before the enriching begins.
    embedded, enriched = asyncio.create_task(embedding), asyncio.create_task(enriching)
    try:
        ended, _ = await asyncio.wait([embedded, enriched], return_when=asyncio.FIRST_EXCEPTION)
        for task in ended:
            task.result()
        return enriched.result(), embedded.result()
    finally:
        for task in (embedded, enriched):
            task.cancel()
        # Also looks at a second failure, which would else be reported as one nobody asked for.
        await asyncio.gather(embedded, enriched, return_exceptions=True)


def _request(block: Block) -> EnrichmentRequest:
    return EnrichmentRequest(block.content, block.occurred_at, block.speaker)
