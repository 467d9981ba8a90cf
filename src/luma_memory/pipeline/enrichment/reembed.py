"""The `reembed` job: embed all passages of one scope with the configured model, online.

New vectors are stored next to the old ones and replace them in one transaction when the scope is
complete. Every batch is committed, so a job that is stopped or killed resumes where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from luma_memory.domain.clock import Clock
from luma_memory.domain.enrichment import Embedding, ModelCall, Vector
from luma_memory.domain.errors import ProviderPaused, ProviderRejected, RateLimited
from luma_memory.domain.job import Cancel, Defer, Done, Job, Outcome
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.ingest.indexing import embedding_text
from luma_memory.ports.models import Embedder
from luma_memory.ports.vector_models import ReembedProgress, StalePassage, VectorModels

# One provider call; locally a quarter of a second, by which new blocks may be delayed.
BATCH_PASSAGES = 128
# Scopes with a pending job at one time.
OPEN_SCOPES_MAX = 500
OTHERS_TURN = timedelta(seconds=1)


class ReembedScope:
    """Handler of `reembed`.

    embedder: None when embedding is disabled. model_id: of its model. slice_: how long one run
    works before it defers itself in favor of other jobs.
    """

    def __init__(
        self,
        store: VectorModels,
        *,
        embedder: Embedder | None,
        model_id: str,
        slice_: timedelta,
        clock: Clock,
        spending: Spending | None,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._model_id = model_id
        self._slice_seconds = slice_.total_seconds()
        self._clock = clock
        self._spending = spending

    async def __call__(self, job: Job) -> Outcome:
        if self._embedder is None:
            return Cancel("embedding is disabled")
        target = await self._store.requested()
        if target is not None and target != self._model_id:
            # This process still has the previous settings; another worker has the new ones.
            return Defer(self._clock.now() + OTHERS_TURN, "another embedding model is the target")
        stop_at = self._clock.monotonic() + self._slice_seconds
        while self._clock.monotonic() < stop_at:
            try:
                if not await self._batch(self._embedder, job.scope):
                    return Done()
            except ProviderPaused as error:
                raise RateLimited(
                    str(error), retry_after_seconds=error.retry_after_seconds, code=error.code
                ) from error
        return Defer(self._clock.now(), "more passages to embed")

    async def _batch(self, embedder: Embedder, scope: Scope) -> bool:
        """Embed some passages. False when none was left and all new vectors are active."""
        passages = await self._store.stale(scope, self._model_id, limit=BATCH_PASSAGES)
        if not passages:
            await self._store.switch(scope, self._model_id)
            return False
        embeddings = await _embedded(embedder, passages)
        self._record_spending(scope, embeddings)
        vectors: list[tuple[StalePassage, Vector | None]] = [
            (passage, embedding.vector if embedding else None)
            for passage, embedding in zip(passages, embeddings, strict=True)
        ]
        await self._store.put(scope, self._model_id, vectors)
        return True

    def _record_spending(self, scope: Scope, embeddings: Sequence[Embedding | None]) -> None:
        if self._spending is not None:
            tokens = sum(embedding.token_count for embedding in embeddings if embedding)
            self._spending.record(
                scope, "reembedding", [ModelCall(self._model_id, tokens)], blocks=0
            )


class Reembedding:
    """Switches the embedding model: start, continue, report progress.

    model_id: of the configured embedder. circuits: of its provider. All methods raise
    StoreUnavailable.
    """

    def __init__(self, store: VectorModels, *, model_id: str, circuits: Sequence[str]) -> None:
        self._store = store
        self._circuits = circuits
        self.model_id = model_id

    async def start(self) -> None:
        """Have workers embed everything with the configured model. Idempotent."""
        await self._store.request(self.model_id)

    async def round(self) -> int:
        """Enqueue the next jobs, or finish a complete switch; returns how many jobs."""
        return await self._store.enqueue(
            self.model_id, limit=OPEN_SCOPES_MAX, circuits=self._circuits
        )

    async def progress(self) -> ReembedProgress:
        """The progress. Scans all passages."""
        return await self._store.progress(self.model_id)


async def _embedded(
    embedder: Embedder, passages: Sequence[StalePassage]
) -> Sequence[Embedding | None]:
    texts = [
        embedding_text(passage.text, embedder, speaker=passage.speaker) for passage in passages
    ]
    try:
        return await embedder.embed_documents(texts)
    except ProviderRejected as error:
        if len(texts) == 1 and not error.concerns_account:
            return [None]  # the model rejects this text: it stays searchable by terms
        if error.concerns_account:
            raise
    return [embedding for passage in passages for embedding in await _embedded(embedder, [passage])]
