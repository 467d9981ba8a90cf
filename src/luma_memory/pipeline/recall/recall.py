"""A question in, the blocks that matter out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace

from luma_memory.domain.cut_off import calls_in_progress
from luma_memory.domain.enrichment import Embedding, ModelCall
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.known_marks import marks_known
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import (
    Calibration,
    RankedIds,
    ScanRequest,
    SearchHit,
    SearchResult,
    TimeSpan,
)
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.enrichment.scope_embedders import ScopeEmbedders
from luma_memory.pipeline.ingest.indexing import names_speakers
from luma_memory.pipeline.ingest.passages import split_passages
from luma_memory.pipeline.recall.block_count import chosen_blocks, most_blocks
from luma_memory.pipeline.recall.calibration import Calibrations, is_readable
from luma_memory.pipeline.recall.fusion import AVERAGE_CALIBRATION, Fusion
from luma_memory.pipeline.recall.identifier_parts import (
    INSIDE_FACTOR,
    has_only_inside_identifiers,
)
from luma_memory.pipeline.recall.ranking import Place, RelevanceScale, place_blocks
from luma_memory.pipeline.recall.related import FOLDING_PLACES, LINKS_MAX, NumberedLink
from luma_memory.pipeline.recall.request import Question, SearchRequest, one_hot
from luma_memory.pipeline.recall.reranking import CANDIDATES_MAX, candidate_text, reordered
from luma_memory.pipeline.recall.scope_layout import (
    ScopeLayout,
    lay_out,
    scored_by_scan,
)
from luma_memory.pipeline.recall.snapshot_words import (
    WordsOfSnapshot,
    scoring_of,
    words_of_snapshot,
)
from luma_memory.pipeline.recall.snapshots import Snapshots
from luma_memory.pipeline.recall.speakers import names_in, own_names
from luma_memory.pipeline.recall.stages import Stages
from luma_memory.pipeline.text.first_person import with_name
from luma_memory.pipeline.text.framing import without_framing
from luma_memory.pipeline.text.function_words import PAIRED_LANGUAGES, is_loaded
from luma_memory.pipeline.text.questions import query_terms, question_first
from luma_memory.pipeline.text.scripts import is_legible, is_unspaced, main_script
from luma_memory.pipeline.text.terms import DEFAULT_LANGUAGE
from luma_memory.ports.accounts import UserStore
from luma_memory.ports.blocks import BlockStore
from luma_memory.ports.models import Embedder, QuestionReader, Reranker
from luma_memory.ports.relations import RelationStore
from luma_memory.ports.search import SearchStore
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit

# A scope that changes its embedding model between question and scan is scanned again.
SWITCHES_MAX = 2
# The default of MEMORY_SIMILARITY_THRESHOLD.
RELEVANCE_THRESHOLD = 0.75
# Longer questions are analyzed in a thread: 10,000 characters can take a tenth of a second.
INLINE_CHARACTERS_MAX = 200
# The vectors of a larger snapshot are multiplied in a thread: with two cores, 16 clients then make
# four searches of 15,000 rows where they made three. Smaller ones take as long as handing over.
INLINE_ROWS_MAX = 12_000
# Of a search alone in its process, which only waits longer for a thread: for half a millisecond.
INLINE_ROWS_ALONE_MAX = 24_000


@dataclass(frozen=True, slots=True)
class _Scanned:
    """The scores of a scope, and the model whose vectors they come from."""

    layout: ScopeLayout
    embedder: Embedder | None  # None: no vectors were used


class Recall:
    """Search over one scope: two retrievers in one statement, then fusion.

    embedder: None searches by terms only. scope_embedders: the embedder of each scope while the
    model changes; None for the embedder itself. reader: times and language of a question; None
    skips them. calibrations: of the models' cosines; None uses an average one for all. threshold:
    the relevance from which a block counts as relevant, 0..1. reranker: reorders the best blocks;
    None keeps their order. relations: how blocks are related; None ignores relations. spending:
    records what embedding questions costs; None records nothing. users: their time zones; None uses
    UTC. snapshots: copies of frequently searched scopes; None always scans.
    """

    def __init__(
        self,
        search_store: SearchStore,
        block_store: BlockStore,
        *,
        embedder: Embedder | None,
        emit: Emit,
        scope_embedders: ScopeEmbedders | None = None,
        reader: QuestionReader | None = None,
        calibrations: Calibrations | None = None,
        threshold: float = RELEVANCE_THRESHOLD,
        reranker: Reranker | None = None,
        relations: RelationStore | None = None,
        spending: Spending | None = None,
        users: UserStore | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._search_store = search_store
        self._block_store = block_store
        self._embedder = embedder
        self._scope_embedders = scope_embedders
        self._reader = reader
        self._calibrations = calibrations
        self._threshold = threshold
        self._reranker = reranker
        self._relations = relations
        self._spending = spending
        self._users = users
        self._snapshots = snapshots
        self._scans = 0  # in progress
        self._emit = emit

    @spans.traced("recall")
    async def search(self, request: SearchRequest) -> SearchResult:
        """The scope's most relevant blocks, best first: at most `limit`, or about as many.

        Blocks that are not enriched yet are found by their terms. If the embedding provider fails
        or is slow, this holds for all blocks, and the result lists "embedding" under `degraded`.
        Raises StoreUnavailable, and SearchTimeout when the database does not respond within the
        time.
        """
        stages = Stages(request.timeout_ms, self._emit)
        hits: Sequence[SearchHit] = ()
        with marks_known():
            question = await self._understand(request, stages)
            scanned = await self._scan(request, question, stages)
            if len(scanned.layout.ordinals):
                places = await self._rank(request, question, scanned, stages)
                hits = await self._read(request, question, scanned, places, stages)
        return SearchResult(
            hits=hits,
            is_relevant=any(hit.relevance >= self._threshold for hit in hits),
            degraded=stages.degraded,
            timings_ms=stages.timings_ms,
            names_times=bool(question.spans),
        )

    @spans.traced("recall")
    async def rank(self, request: SearchRequest) -> RankedIds:
        """As `search`, without the blocks where their order does not depend on their text. Blocks
        that were deleted meanwhile may be among the ids."""
        if self._reranker is not None:
            result = await self.search(request)
            ranked = [(hit.block.id, hit.score) for hit in result.hits]
            return RankedIds(ranked, result.degraded)
        stages = Stages(request.timeout_ms, self._emit)
        with marks_known():
            question = await self._understand(request, stages)
            scanned = await self._scan(request, question, stages)
            if not len(scanned.layout.ordinals):
                return RankedIds((), stages.degraded)
            places = await self._rank(request, question, scanned, stages)
        ranked = [(scanned.layout.block_id(place.block), place.score) for place in places]
        return RankedIds(ranked, stages.degraded)

    async def _understand(self, request: SearchRequest, stages: Stages) -> Question:
        query, user_id = request.query, request.scope.user_id
        language: str | None = DEFAULT_LANGUAGE
        if self._reader is not None:
            language = await stages.optional("language", self._reader.language(query))
        if len(query) <= INLINE_CHARACTERS_MAX and is_loaded(language):
            question = _read_words(query, language, user_id)
        else:
            question = await asyncio.to_thread(_read_words, query, language, user_id)
        question = await self._with_times(request, question, stages)
        stages.ended("understand")
        return question

    @spans.traced("understand")
    async def _with_times(
        self, request: SearchRequest, question: Question, stages: Stages
    ) -> Question:
        if self._reader is None:
            return question
        times = await stages.optional("time", self._times(self._reader, request))
        if times is None:
            return question
        events = await stages.optional("time", self._reader.events(request.query))
        return replace(question, spans=times, events=events or ())

    async def _times(self, reader: QuestionReader, request: SearchRequest) -> Sequence[TimeSpan]:
        """In days of the user's time zone, which is read only if the question names a time."""
        spans = await reader.times(request.query, request.as_of)
        if not spans or self._users is None:
            return spans
        time_zone = (await self._users.read(request.scope)).time_zone
        if time_zone == "UTC":
            return spans
        return await reader.times(request.query, request.as_of, time_zone=time_zone)

    async def _scan(self, request: SearchRequest, question: Question, stages: Stages) -> _Scanned:
        self._scans += 1
        try:
            return await self._scan_current(request, question, stages)
        finally:
            self._scans -= 1

    async def _scan_current(
        self, request: SearchRequest, question: Question, stages: Stages
    ) -> _Scanned:
        for _ in range(SWITCHES_MAX):
            embedder = self._embedder
            if self._scope_embedders is not None:
                embedder = await self._scope_embedders.of_scope(request.scope)
            looked_up = self._look_up(request, question, embedder)
            try:
                embedding = await self._embedding(request, embedder, stages)
                stages.ended("embed")
                used = embedder if embedding is not None else None
                found = None
                if looked_up is not None and embedding is not None:
                    found = await stages.required(looked_up)
            finally:
                if looked_up is not None:
                    looked_up.cancel()
            if found is not None and embedding is not None:
                layout = await self._multiplied(found, embedding)
            else:
                layout = await self._scanned(request, question, embedding, used, stages)
            stages.ended("scan")
            if self._scope_embedders is None or used is None:
                break
            if await self._scope_embedders.is_current(used, request.scope):
                break
        return _Scanned(layout, used)

    def _look_up(
        self, request: SearchRequest, question: Question, embedder: Embedder | None
    ) -> asyncio.Task[WordsOfSnapshot | None] | None:
        """Start a snapshot's lookup concurrently with the embedding; None to scan the scope."""
        if self._snapshots is None or embedder is None:
            return None
        work = words_of_snapshot(self._snapshots, request, question, embedder.model.id)
        task = asyncio.create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _multiplied(self, found: WordsOfSnapshot, embedding: Embedding) -> ScopeLayout:
        limit = INLINE_ROWS_MAX if self._scans > 1 else INLINE_ROWS_ALONE_MAX
        return await found.layout(embedding.vector, inline_rows_max=limit)

    async def _scanned(
        self,
        request: SearchRequest,
        question: Question,
        embedding: Embedding | None,
        embedder: Embedder | None,
        stages: Stages,
    ) -> ScopeLayout:
        scan = ScanRequest(
            vector=embedding.vector if embedding else None,
            embedding_model=embedder.model.id if embedder else None,
            terms=[one_hot([term]) for term in question.terms],
            all_terms=one_hot(question.terms),
            names=[*question.named, *question.own],
            as_of=request.as_of,
            include_superseded=request.include_superseded,
            filters=request.filters,
            items=request.items,
        )
        rows = scored_by_scan(await stages.required(self._search_store.scan(request.scope, scan)))
        return lay_out(rows, question.terms, scoring_of(question, rows.matched.name_keys))

    @spans.traced("embed")
    async def _embedding(
        self, request: SearchRequest, embedder: Embedder | None, stages: Stages
    ) -> Embedding | None:
        if embedder is None:
            return None
        work = self._embedded(request, embedder)
        if self._spending is not None:
            work = _counted(work, request.scope, embedder, self._spending)
        return await stages.optional("embedding", work)

    async def _embedded(self, request: SearchRequest, embedder: Embedder) -> Embedding:
        text = without_framing(request.query)
        if len(split_passages(text)) > 1:
            text = question_first(text)
        user_id = request.scope.user_id
        # Where passages name their speakers, the question names the user.
        if names_speakers(embedder) and with_name(text, user_id) != text:
            text = with_name(text, await self._search_store.own_speaker(request.scope))
        return await embedder.embed_query(text)

    async def _rank(
        self, request: SearchRequest, question: Question, scanned: _Scanned, stages: Stages
    ) -> Sequence[Place]:
        calibration = await self._calibration(request.query, question, scanned.embedder, stages)
        stages.ended("calibrate")
        layout = scanned.layout
        fusion = _fusion(layout, calibration) if request.ranking == "fused" else None
        limit = most_blocks(request.limit) if request.is_flexible else request.limit
        if fusion is not None and self._reranker is not None:
            limit = max(limit, CANDIDATES_MAX)
        links: Sequence[NumberedLink] = ()
        if fusion is not None and request.use_relations:
            links = await self._links(request.scope, layout, fusion, limit, stages)
        model = scanned.embedder.model if scanned.embedder else None
        scale = RelevanceScale(
            calibration,
            is_legible=is_readable(
                request.query, question.language, model.scripts if model else None
            ),
            by_pairs=is_unspaced(request.query) and question.language not in PAIRED_LANGUAGES,
        )
        by = fusion or request.ranking
        places = place_blocks(layout, by, scale, links, limit=limit, explain=request.explain)
        stages.ended("fuse")
        return places

    @spans.traced("relations")
    async def _links(
        self, scope: Scope, layout: ScopeLayout, fusion: Fusion, limit: int, stages: Stages
    ) -> Sequence[NumberedLink]:
        """Relations between the blocks that may be returned and all blocks of the layout."""
        if self._relations is None:
            return ()
        shown = [layout.block_id(block) for block in fusion.best_blocks(limit + FOLDING_PLACES)]
        work = self._relations.links(scope, shown, limit=LINKS_MAX)
        links = await stages.optional("relations", work) or ()
        numbers = layout.numbers(key for link in links for key in (link.source_id, link.target_id))
        return [
            NumberedLink(
                numbers[link.source_id], numbers[link.target_id], link.type, link.confidence
            )
            for link in links
            if link.source_id in numbers and link.target_id in numbers
        ]

    @spans.traced("calibrate")
    async def _calibration(
        self, query: str, question: Question, embedder: Embedder | None, stages: Stages
    ) -> Calibration:
        if embedder is None or self._calibrations is None:
            return AVERAGE_CALIBRATION
        work = self._calibrations.of_question(embedder, main_script(query), question.language)
        return await stages.optional("calibration", work) or AVERAGE_CALIBRATION

    async def _read(
        self,
        request: SearchRequest,
        question: Question,
        scanned: _Scanned,
        places: Sequence[Place],
        stages: Stages,
    ) -> Sequence[SearchHit]:
        scripts = scanned.embedder.model.scripts if scanned.embedder else None
        work = self._hits(request.scope, question, scanned.layout, places, scripts)
        found = await stages.required(work)
        if request.relevant_only:
            found = [entry for entry in found if entry[0].relevance >= self._threshold]
        stages.ended("read")
        chosen: Sequence[int] = range(min(request.limit, len(found)))
        if request.is_flexible:
            chosen = chosen_blocks(
                [place.z_score for _, place in found],
                [len(hit.block.content) for hit, _ in found],
                request.limit,
            )
        if self._reranker is not None and request.ranking == "fused" and len(found) > 1:
            hits = await self._reranked(self._reranker, request.query, found, stages)
            stages.ended("rerank")
            if hits is not None:
                return hits[: len(chosen)]
        return [found[number][0] for number in chosen]

    @spans.traced("rerank")
    async def _reranked(
        self,
        reranker: Reranker,
        query: str,
        found: Sequence[tuple[SearchHit, Place]],
        stages: Stages,
    ) -> Sequence[SearchHit] | None:
        """Hits in the reranker's order; None if it fails."""
        texts = [candidate_text(hit, place.passage) for hit, place in found[:CANDIDATES_MAX]]
        scores = await stages.optional("rerank", reranker.rerank(query, texts))
        return None if scores is None else reordered([hit for hit, _ in found], scores)

    @spans.traced("read")
    async def _hits(
        self,
        scope: Scope,
        question: Question,
        layout: ScopeLayout,
        places: Sequence[Place],
        scripts: frozenset[str] | None,
    ) -> Sequence[tuple[SearchHit, Place]]:
        """Blocks, each with its place; blocks deleted since the scan are omitted."""
        blocks = await self._block_store.read(
            [(scope, layout.block_id(place.block)) for place in places]
        )
        return [
            (
                SearchHit(
                    block,
                    place.score,
                    _relevance(place, block.content, question, scripts),
                    place.explanation,
                ),
                place,
            )
            for block, place in zip(blocks, places, strict=True)
            if block is not None
        ]


def _relevance(
    place: Place, text: str, question: Question, scripts: frozenset[str] | None
) -> float:
    value = place.relevance if is_legible(text, scripts) else place.word_relevance
    is_doubtful = value >= INSIDE_FACTOR and not question.spans
    if is_doubtful and has_only_inside_identifiers(text, question.terms):
        return value * INSIDE_FACTOR
    return value


def _read_words(query: str, language: str | None, user_id: str) -> Question:
    return Question(
        terms=query_terms(without_framing(query), language=language, known=[user_id]),
        named=names_in(question_first(query)),
        own=own_names(user_id),
        language=language,
    )


async def _counted(
    work: Awaitable[Embedding], scope: Scope, embedder: Embedder, spending: Spending
) -> Embedding:
    """The question's vector, with its call recorded; a cached one needs no call."""
    try:
        with calls_in_progress() as cut_off:
            embedding = await work
    except LumaMemoryError as error:
        spending.record(scope, "query", error.calls, blocks=0)
        raise
    except asyncio.CancelledError:
        spending.record(scope, "query", cut_off, blocks=0)
        raise
    if embedding.token_count:
        call = ModelCall(embedder.model.id, embedding.token_count)
        spending.record(scope, "query", [call], blocks=0)
    return embedding


@spans.traced("fuse")
def _fusion(layout: ScopeLayout, calibration: Calibration) -> Fusion:
    return Fusion(layout.scores, calibration=calibration, words=layout.word_scores)
