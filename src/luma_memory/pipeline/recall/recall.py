"""A question in, the blocks that matter out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from luma_memory.domain.cut_off import calls_under_way
from luma_memory.domain.enrichment import Embedding, ModelCall
from luma_memory.domain.errors import LumaMemoryError, SearchTimeout
from luma_memory.domain.filters import Filter
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import (
    Calibration,
    Explanation,
    NamedEvent,
    Ranking,
    ScanRequest,
    SearchHit,
    SearchResult,
    TimeSpan,
)
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.pipeline.recall.calibration import Calibrations
from luma_memory.pipeline.recall.events import query_events
from luma_memory.pipeline.recall.fusion import (
    ADDITIONS,
    BACKGROUND,
    Fusion,
    RankedBlock,
    rank_dense,
    rank_lexical,
    rank_reciprocal,
)
from luma_memory.pipeline.recall.related import (
    FOLDING_PLACES,
    LINKS_MAX,
    NumberedLink,
    Related,
    with_relations,
)
from luma_memory.pipeline.recall.relevance import relevance
from luma_memory.pipeline.recall.reranking import CANDIDATES_MAX, candidate_text, reordered
from luma_memory.pipeline.recall.scope_layout import ScopeLayout, ScoringRequest, lay_out
from luma_memory.pipeline.recall.speakers import names_in, own_names
from luma_memory.pipeline.text.terms import DEFAULT_LANGUAGE, QueryTerm, TermVector, query_terms
from luma_memory.ports.blocks import BlockStore
from luma_memory.ports.models import Embedder, QuestionReader, Reranker
from luma_memory.ports.relations import RelationStore
from luma_memory.ports.search import SearchStore
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit, RecallDegraded
from luma_memory.telemetry.logs import Stopwatch

ResultT = TypeVar("ResultT")

# Somebody waits for the answer: a provider that takes longer than this is done without.
OPTIONAL_SECONDS_MAX = 2.0
# Of what is left of a request's time: the rest is the scan's, without which there is no answer.
OPTIONAL_SHARE = 0.6
# A scope that changes its embedding model between question and scan is asked again.
SWITCHES_MAX = 2
# The default of MEMORY_SIMILARITY_THRESHOLD.
RELEVANCE_THRESHOLD = 0.75


@dataclass(frozen=True, slots=True)
class _Place:
    """One block of a ranking, whichever made it."""

    block: int
    score: float
    relevance: float
    passage: int  # ordinal of the one that speaks for it
    explanation: Explanation


class Recall:
    """Search over one scope: two retrievers in one statement, fused here.

    embedder: None searches by words alone. serving: who embeds for which scope while the model
    changes; None for the embedder itself. reader: what else a question says (times); None is not
    asked. backgrounds: what the models' cosines mean; None takes all models for average ones.
    threshold: how relevant a block has to be to be called so, 0..1. reranker: reads the best blocks
    again; None: they stay in their order. relations: how blocks are related; None is not asked.
    spending: the account of what embedding questions takes,
    None for nobody's.
    """

    def __init__(
        self,
        search_store: SearchStore,
        block_store: BlockStore,
        *,
        embedder: Embedder | None,
        emit: Emit,
        serving: ScopeEmbedders | None = None,
        reader: QuestionReader | None = None,
        backgrounds: Calibrations | None = None,
        threshold: float = RELEVANCE_THRESHOLD,
        reranker: Reranker | None = None,
        relations: RelationStore | None = None,
        spending: Spending | None = None,
    ) -> None:
        self._search_store = search_store
        self._block_store = block_store
        self._embedder = embedder
        self._serving = serving
        self._reader = reader
        self._backgrounds = backgrounds
        self._threshold = threshold
        self._reranker = reranker
        self._relations = relations
        self._spending = spending
        self._emit = emit

    @spans.traced("recall")
    async def search(
        self,
        scope: Scope,
        query: str,
        *,
        limit: int,
        filters: Filter | None = None,
        as_of: datetime | None = None,
        include_superseded: bool = False,
        timeout_ms: int | None = None,
        ranking: Ranking = "fused",
        relevant_only: bool = False,
        use_relations: bool = True,
        explain: bool = False,
    ) -> SearchResult:
        """The scope's blocks that answer the question, best first, at most `limit`.

        Blocks no worker has seen are found by their words. When the embedding provider fails or
        is slow, so are all, and the result says "embedding" under `degraded`. filters: which blocks
        may answer; what is filtered out takes no part in the ranking either. as_of: the scope as
        it stood then, by the blocks' own times. relevant_only: of those at most `limit` blocks only
        those that reach the threshold. use_relations: false ranks as if there were none. Raises
        StoreUnavailable, and SearchTimeout when the time is over before the database has answered.
        """
        deadline = _Deadline(timeout_ms)
        timings: dict[str, float] = {}
        degraded: list[str] = []
        watch = Stopwatch()
        named, own = names_in(query), own_names(scope.user_id)
        terms = query_terms(query, language=await self._language(query, deadline, degraded))
        spans, events = await self._times(query, as_of, deadline, degraded)
        timings["understand"] = watch.lap_ms()
        for _ in range(SWITCHES_MAX):
            embedder = await self._serving.of_scope(scope) if self._serving else self._embedder
            embedding = await self._embedding(scope, embedder, query, deadline, degraded)
            timings["embed"] = timings.get("embed", 0.0) + watch.lap_ms()
            request = ScanRequest(
                vector=embedding.vector if embedding else None,
                embedding_model=embedder.model.id if embedder and embedding else None,
                terms=[_one_hot([term]) for term in terms],
                all_terms=_one_hot(terms),
                names=[*named, *own],
                as_of=as_of,
                include_superseded=include_superseded,
                filters=filters,
            )
            scan = await deadline.bound(self._search_store.scan(scope, request))
            timings["scan"] = timings.get("scan", 0.0) + watch.lap_ms()
            if not (self._serving and embedder and embedding):
                break
            if await self._serving.still_serves(embedder, scope):
                break
        if scan.row_count == 0:
            return SearchResult(hits=(), degraded=degraded, timings_ms=timings)
        background = await self._background(embedder if embedding else None, deadline, degraded)
        timings["calibrate"] = watch.lap_ms()
        keys = scan.name_keys
        wanted = ScoringRequest(
            named=keys[: len(named)],
            own=keys[len(named) :],
            spans=spans,
            events=query_events(events, terms),
        )
        layout = lay_out(scan, terms, wanted)
        fusion = _fusion(layout, background) if ranking == "fused" else None
        reranker = self._reranker if fusion is not None else None
        wide = limit if reranker is None else max(limit, CANDIDATES_MAX)
        links = (
            await self._links(scope, layout, fusion, wide, deadline, degraded)
            if fusion is not None and use_relations
            else ()
        )
        places = _places(layout, fusion or ranking, background, links, limit=wide, explain=explain)
        if relevant_only:
            places = [place for place in places if place.relevance >= self._threshold]
        timings["fuse"] = watch.lap_ms()
        found = await deadline.bound(self._hits(scope, layout, places))
        timings["read"] = watch.lap_ms()
        if reranker is not None and len(found) > 1:
            found = await self._reranked(reranker, query, found, deadline, degraded)
            timings["rerank"] = watch.lap_ms()
        hits = [hit for hit, _ in found[:limit]]
        return SearchResult(
            hits=hits,
            is_relevant=any(hit.relevance >= self._threshold for hit in hits),
            degraded=degraded,
            timings_ms=timings,
        )

    @spans.traced("embed")
    async def _embedding(
        self,
        scope: Scope,
        embedder: Embedder | None,
        query: str,
        deadline: _Deadline,
        degraded: list[str],
    ) -> Embedding | None:
        if embedder is None:
            return None
        work = embedder.embed_query(query)
        if self._spending is not None:
            work = _counted(work, scope, embedder, self._spending)
        return await self._optional("embedding", work, deadline, degraded)

    @spans.traced("rerank")
    async def _reranked(
        self,
        reranker: Reranker,
        query: str,
        found: Sequence[tuple[SearchHit, int]],
        deadline: _Deadline,
        degraded: list[str],
    ) -> Sequence[tuple[SearchHit, int]]:
        """Hits with their passages in the reranker's order; in their own where it fails."""
        texts = [candidate_text(hit, passage) for hit, passage in found[:CANDIDATES_MAX]]
        work = reranker.rerank(query, texts)
        scores = await self._optional("rerank", work, deadline, degraded)
        if scores is None:
            return found
        return [(hit, 0) for hit in reordered([hit for hit, _ in found], scores)]

    @spans.traced("relations")
    async def _links(
        self,
        scope: Scope,
        layout: ScopeLayout,
        fusion: Fusion,
        limit: int,
        deadline: _Deadline,
        degraded: list[str],
    ) -> Sequence[NumberedLink]:
        """Relations of what may be shown with whatever else is in the layout."""
        if self._relations is None:
            return ()
        shown = [layout.block_id(ranked.block) for ranked in fusion.best(limit + FOLDING_PLACES)]
        work = self._relations.links(scope, shown, limit=LINKS_MAX)
        links = await self._optional("relations", work, deadline, degraded) or ()
        numbers = layout.numbers(key for link in links for key in (link.source_id, link.target_id))
        return [
            NumberedLink(
                numbers[link.source_id], numbers[link.target_id], link.type, link.confidence
            )
            for link in links
            if link.source_id in numbers and link.target_id in numbers
        ]

    @spans.traced("calibrate")
    async def _background(
        self, embedder: Embedder | None, deadline: _Deadline, degraded: list[str]
    ) -> Calibration:
        if embedder is None or self._backgrounds is None:
            return BACKGROUND
        work = self._backgrounds.of(embedder)
        return await self._optional("calibration", work, deadline, degraded) or BACKGROUND

    async def _language(self, query: str, deadline: _Deadline, degraded: list[str]) -> str | None:
        if self._reader is None:
            return DEFAULT_LANGUAGE
        return await self._optional("language", self._reader.language(query), deadline, degraded)

    @spans.traced("understand")
    async def _times(
        self, query: str, as_of: datetime | None, deadline: _Deadline, degraded: list[str]
    ) -> tuple[Sequence[TimeSpan], Sequence[NamedEvent]]:
        if self._reader is None:
            return (), ()
        spans = await self._optional("time", self._reader.times(query, as_of), deadline, degraded)
        if spans is None:
            return (), ()
        events = await self._optional("time", self._reader.events(query), deadline, degraded)
        return spans, events or ()

    async def _optional(
        self,
        stage: str,
        work: Awaitable[ResultT],
        deadline: _Deadline,
        degraded: list[str],
    ) -> ResultT | None:
        """What the work finds; None, and said so, when it fails or takes too long."""
        try:
            async with asyncio.timeout(deadline.share(OPTIONAL_SHARE, OPTIONAL_SECONDS_MAX)):
                return await work
        except TimeoutError as error:
            spans.current().failed(error)
            self._emit(RecallDegraded(stage, "no answer in time"))
        except LumaMemoryError as error:
            spans.current().failed(error)
            self._emit(RecallDegraded(stage, str(error)))
        degraded.append(stage)
        return None

    @spans.traced("read")
    async def _hits(
        self, scope: Scope, layout: ScopeLayout, places: Sequence[_Place]
    ) -> Sequence[tuple[SearchHit, int]]:
        """Blocks, each with the passage that speaks for it."""
        blocks = await self._block_store.read(
            [(scope, layout.block_id(place.block)) for place in places]
        )
        return [
            (SearchHit(block, place.score, place.relevance, place.explanation), place.passage)
            for block, place in zip(blocks, places, strict=True)
            if block is not None  # deleted since the scan
        ]


class _Deadline:
    """The time of one request; without a limit, only the parts have theirs."""

    def __init__(self, timeout_ms: int | None) -> None:
        self._seconds = None if timeout_ms is None else timeout_ms / 1000
        self._watch = Stopwatch()

    def share(self, share: float, seconds_max: float) -> float:
        """Seconds that a part may take at most, by what is left."""
        if self._seconds is None:
            return seconds_max
        left = self._seconds - self._watch.elapsed_ms / 1000
        return min(seconds_max, share * max(left, 0.0))

    async def bound(self, work: Awaitable[ResultT]) -> ResultT:
        """What the work finds in the time that is left. Raises SearchTimeout."""
        if self._seconds is None:
            return await work
        try:
            left = self._seconds - self._watch.elapsed_ms / 1000
            async with asyncio.timeout(max(left, 0.0)):
                return await work
        except TimeoutError as error:
            raise SearchTimeout("The database did not answer within timeout_ms") from error


async def _counted(
    work: Awaitable[Embedding], scope: Scope, embedder: Embedder, spending: Spending
) -> Embedding:
    """The question's vector, its call in the account; one that was kept took none."""
    try:
        with calls_under_way() as cut_off:
            embedding = await work
    except LumaMemoryError as error:
        spending.note(scope, "query", error.calls, blocks=0)
        raise
    except asyncio.CancelledError:
        spending.note(scope, "query", cut_off, blocks=0)
        raise
    if embedding.token_count:
        call = ModelCall(embedder.model.id, embedding.token_count)
        spending.note(scope, "query", [call], blocks=0)
    return embedding


@spans.traced("fuse")
def _fusion(layout: ScopeLayout, background: Calibration) -> Fusion:
    return Fusion(layout.scores, background=background)


def _places(
    layout: ScopeLayout,
    by: Fusion | Ranking,
    background: Calibration,
    links: Sequence[NumberedLink],
    *,
    limit: int,
    explain: bool,
) -> Sequence[_Place]:
    def place(block: int, score: float, explanation: Explanation, passage: int = 0) -> _Place:
        return _Place(block, score, _relevance(block, layout, background), passage, explanation)

    if isinstance(by, Fusion):
        related = with_relations(by, links, limit=limit) if links else Related(by.best(limit))
        return [
            place(
                found.block,
                found.score,
                _explanation(found, layout, related) if explain else {},
                int(layout.ordinals[found.passage]),
            )
            for found in related.ranked
        ]
    rank = {"dense": rank_dense, "lexical": rank_lexical, "reciprocal": rank_reciprocal}[by]
    # Ranks are all that these know: a score falls from 1 and means nothing beside others.
    return [
        place(block, 1.0 / number, {"rank": number} if explain else {})
        for number, block in enumerate(rank(layout.scores, limit=limit), start=1)
    ]


def _relevance(block: int, layout: ScopeLayout, background: Calibration) -> float:
    """That of the block's most relevant passage."""
    own = layout.passages(block)
    found = relevance(layout.scores.dense[own], layout.coverage[own], background)
    return float(found.max())


def _one_hot(terms: Sequence[QueryTerm]) -> bytes:
    indices = sorted({term.index for term in terms})
    return TermVector(indices, [1.0] * len(indices)).to_binary()


def _explanation(place: RankedBlock, layout: ScopeLayout, related: Related) -> Explanation:
    """Every part of the score; standings are standard deviations above the scope's mean."""
    parts = place.parts
    return {
        "dense_similarity": parts.dense_similarity,
        "dense_standing": parts.dense_standing,
        "dense_weight": parts.weights.dense,
        "lexical_score": parts.lexical_score,
        "lexical_standing": parts.lexical_standing,
        "lexical_weight": parts.weights.lexical,
        "context_standing": parts.context_standing,
        "context_weight": parts.weights.context,
        "speaker": parts.speaker,
        "time": parts.time,
        "session_standing": parts.session,
        "session_share": ADDITIONS.session,
        "relation_gain": parts.relation,
        "standing": parts.standing,
        **_of_relations(place.block, layout, related),
        "coverage": float(layout.coverage[layout.passages(place.block)].max()),
        "passage": int(layout.ordinals[place.passage]),
    }


def _of_relations(block: int, layout: ScopeLayout, related: Related) -> Explanation:
    """Which relation lifts the block, and what is folded into it, where there is any."""
    explanation: dict[str, str] = {}
    if (lift := related.lifts.get(block)) is not None:
        explanation |= {"relation": lift.type, "relation_to": str(layout.block_id(lift.by))}
    if same := related.folded.get(block):
        explanation["folded"] = " ".join(str(layout.block_id(one)) for one in same)
    return explanation
