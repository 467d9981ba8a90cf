"""A question in, the blocks that matter out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from luma_memory.domain.enrichment import Embedding
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.ports import BlockStore, Embedder, SearchStore
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ScopeScan, SearchHit, SearchResult
from luma_memory.pipeline.fusion import RankedBlock, fuse
from luma_memory.pipeline.scope_layout import ScopeLayout, lay_out
from luma_memory.pipeline.serving import ServingEmbedders
from luma_memory.pipeline.terms import QueryTerm, TermVector, query_terms
from luma_memory.telemetry.events import Emit, RecallDegraded
from luma_memory.telemetry.logs import Stopwatch

# Somebody waits for the answer: a provider that takes longer than this is done without.
EMBEDDING_SECONDS_MAX = 2.0
# A scope that changes its embedding model between question and scan is asked again.
SWITCHES_MAX = 2


class Recall:
    """Search over one scope: two retrievers in one statement, fused here.

    embedder: None searches by words alone. serving: who embeds for which scope while the model
    changes; None for the embedder itself.
    """

    def __init__(
        self,
        search_store: SearchStore,
        block_store: BlockStore,
        *,
        embedder: Embedder | None,
        emit: Emit,
        serving: ServingEmbedders | None = None,
    ) -> None:
        self._search_store = search_store
        self._block_store = block_store
        self._embedder = embedder
        self._serving = serving
        self._emit = emit

    async def search(
        self, scope: Scope, query: str, *, limit: int, explain: bool = False
    ) -> SearchResult:
        """The scope's blocks that answer the question, best first, at most `limit`.

        Blocks no worker has seen are found by their words. When the embedding provider fails, so
        are all, and the result says "embedding" under `degraded`. Raises StoreUnavailable.
        """
        timings: dict[str, float] = {}
        degraded: list[str] = []
        watch = Stopwatch()
        terms = query_terms(query)
        for _ in range(SWITCHES_MAX):
            embedder = await self._serving.of_scope(scope) if self._serving else self._embedder
            embedding = await self._embedding(embedder, query, degraded)
            timings["embed"] = timings.get("embed", 0.0) + watch.lap_ms()
            scan = await self._search_store.scan(
                scope,
                vector=embedding.vector if embedding else None,
                embedding_model=embedder.model.id if embedder and embedding else None,
                terms=[_one_hot([term]) for term in terms],
                all_terms=_one_hot(terms),
            )
            timings["scan"] = timings.get("scan", 0.0) + watch.lap_ms()
            if not (self._serving and embedder and embedding):
                break
            if await self._serving.still_serves(embedder, scope):
                break
        if scan.passage_count == 0:
            return SearchResult(hits=(), degraded=degraded, timings_ms=timings)
        layout = lay_out(scan, terms)
        ranked = fuse(layout.scores, limit=limit)
        timings["fuse"] = watch.lap_ms()
        explanations = [_explanation(place, scan) if explain else {} for place in ranked]
        hits = await self._hits(scope, layout, ranked, explanations)
        timings["read"] = watch.lap_ms()
        return SearchResult(hits=hits, degraded=degraded, timings_ms=timings)

    async def _embedding(
        self, embedder: Embedder | None, query: str, degraded: list[str]
    ) -> Embedding | None:
        if embedder is None:
            return None
        try:
            async with asyncio.timeout(EMBEDDING_SECONDS_MAX):
                return await embedder.embed_query(query)
        except TimeoutError:
            self._emit(RecallDegraded("embedding", "no answer in time"))
            degraded.append("embedding")
            return None
        except LumaMemoryError as error:
            self._emit(RecallDegraded("embedding", str(error)))
            degraded.append("embedding")
            return None

    async def _hits(
        self,
        scope: Scope,
        layout: ScopeLayout,
        ranked: Sequence[RankedBlock],
        explanations: Sequence[Mapping[str, float | int | str | None]],
    ) -> Sequence[SearchHit]:
        blocks = await self._block_store.read(
            [(scope, layout.block_id(place.block)) for place in ranked]
        )
        return [
            SearchHit(block, place.score, explanation)
            for block, place, explanation in zip(blocks, ranked, explanations, strict=True)
            if block is not None  # deleted since the scan
        ]


def _one_hot(terms: Sequence[QueryTerm]) -> bytes:
    indices = sorted({term.index for term in terms})
    return TermVector(indices, [1.0] * len(indices)).to_binary()


def _explanation(place: RankedBlock, scan: ScopeScan) -> Mapping[str, float | int | str | None]:
    """Every part of the score; standings are standard deviations above the scope's mean."""
    parts = place.parts
    return {
        "dense_similarity": parts.dense_similarity,
        "dense_standing": parts.dense_standing,
        "dense_weight": parts.weights.dense,
        "lexical_score": parts.lexical_score,
        "lexical_standing": parts.lexical_standing,
        "lexical_weight": parts.weights.lexical,
        "standing": parts.standing,
        "passage": scan.ordinals[place.passage],
    }
