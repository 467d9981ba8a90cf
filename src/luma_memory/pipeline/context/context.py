"""Contexts: the chosen blocks for a question, and a text for a prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from luma_memory.concurrency.deadline import within
from luma_memory.domain.cache import CacheKey, KeyPart, context_key
from luma_memory.domain.context import (
    DATABASE,
    SYNTHESIS,
    TOKEN_BUDGET,
    Citation,
    Context,
    ContextBlock,
    ContextRequest,
    ContextResult,
    SynthesisRequest,
)
from luma_memory.domain.cut_off import calls_in_progress
from luma_memory.domain.enrichment import ModelCall
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import EVERY_ITEM, SearchHit
from luma_memory.pipeline.accounts.spending import Spending
from luma_memory.pipeline.context.context_cache import Computed, ContextCache
from luma_memory.pipeline.context.context_text import Fitted, fit
from luma_memory.pipeline.context.synthesize import checked_text
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.ports.models import Synthesizer, TokenCounter
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit, RecallDegraded
from luma_memory.telemetry.logs import Stopwatch

# With less time left than this, the model is not called.
SYNTHESIS_SECONDS_MIN: Final = 0.2
# Of a score: a scan and a snapshot differ in the eighth one, and a context is the same by either.
_DIGITS: Final = 4


class Contexts:
    """Contexts of questions, from the cache if nothing has changed since.

    synthesizer: None to write the text from the template. configuration: every setting that changes
    a context; it is part of the cache key. spending: records calls of the synthesizer; None not to.
    """

    def __init__(
        self,
        recall: Recall,
        cache: ContextCache,
        *,
        synthesizer: Synthesizer | None,
        tokens: TokenCounter,
        configuration: Sequence[KeyPart],
        emit: Emit,
        spending: Spending | None = None,
    ) -> None:
        self._recall = recall
        self._cache = cache
        self._synthesizer = synthesizer
        self._tokens = tokens
        self._configuration = [
            *configuration,
            tokens.name,
            synthesizer.name if synthesizer is not None else None,
        ]
        self._emit = emit
        self._spending = spending

    @property
    def counted_by(self) -> str:
        """The tokenizer that counts the budget."""
        return self._tokens.name

    @spans.traced("context")
    async def get_context(self, request: ContextRequest) -> ContextResult:
        """The context, and in what it is degraded.

        Raises StoreUnavailable when PostgreSQL does not respond and nothing is cached,
        SearchTimeout, and UnavailableError (code deadline_exceeded) without a result in time.
        """
        watch = Stopwatch()
        timings: dict[str, float] = {}
        result = await self._cache.get_or_compute(
            self._key(request),
            request.scope,
            lambda: self._compute(request, timings),
            timeout_seconds=request.timeout_seconds,
            is_counted=not request.is_probe,
        )
        degraded = list(result.context.degraded)
        if not result.is_checked:
            degraded.append(DATABASE)
        timings["total"] = watch.elapsed_ms
        spans.current().set(
            {"luma.cached": result.age_seconds is not None, "luma.degraded": " ".join(degraded)}
        )
        return ContextResult(result.context, result.age_seconds, degraded, timings)

    async def close(self) -> None:
        """Cancel running computations. Idempotent."""
        await self._cache.close()

    def _key(self, request: ContextRequest) -> CacheKey:
        return context_key(
            request.scope,
            [
                *self._configuration,
                request.query,
                request.blocks_max,
                request.token_budget,
                self._is_synthesized(request),
                request.relevant_only,
                request.include_items,
                request.is_flexible,
            ],
        )

    def _is_synthesized(self, request: ContextRequest) -> bool:
        return request.synthesize and self._synthesizer is not None

    async def _compute(self, request: ContextRequest, timings: dict[str, float]) -> Computed:
        """The context, and how long it may be cached."""
        watch = Stopwatch()
        ends = asyncio.get_running_loop().time() + request.timeout_seconds
        found = await self._recall.search(
            SearchRequest(
                scope=request.scope,
                query=request.query,
                limit=request.blocks_max,
                is_flexible=request.is_flexible,
                timeout_ms=round(request.timeout_seconds * 1000),
                relevant_only=request.relevant_only,
                items=EVERY_ITEM if request.include_items else None,
            )
        )
        timings.update(found.timings_ms)
        watch.lap_ms()
        blocks = [_context_block(hit) for hit in found.hits]
        fitted = await fit(
            blocks, request.query, token_budget=request.token_budget, tokens=self._tokens
        )
        timings["fit"] = watch.lap_ms()
        degraded = [*found.degraded, *([] if fitted.is_whole else [TOKEN_BUDGET])]
        context = _templated(fitted, degraded, is_relevant=found.is_relevant)
        if not fitted.blocks or not self._is_synthesized(request):
            return Computed(context, not found.degraded, found.names_times)
        written = await self._written(request, context, ends)
        timings["synthesize"] = watch.lap_ms()
        if isinstance(written, str):
            self._emit(RecallDegraded(SYNTHESIS, written))
            return Computed(replace(context, degraded=[*degraded, SYNTHESIS]), is_complete=False)
        return Computed(written, not found.degraded, found.names_times)

    @spans.traced("synthesize")
    async def _written(
        self, request: ContextRequest, context: Context, ends: float
    ) -> Context | str:
        """The context with the model's text, or why there is none."""
        assert self._synthesizer is not None
        left_seconds = ends - asyncio.get_running_loop().time()
        if left_seconds < SYNTHESIS_SECONDS_MIN:
            return "no time is left for it"
        synthesis_request = SynthesisRequest(request.query, context.blocks, request.token_budget)
        try:
            with calls_in_progress() as cut_off:
                synthesis = await within(
                    self._synthesizer.synthesize(synthesis_request), left_seconds
                )
        except TimeoutError:
            self._note(request.scope, cut_off)
            return "the model did not respond in time"
        except LumaMemoryError as error:
            self._note(request.scope, error.calls)
            return str(error)
        self._note(request.scope, synthesis.calls)
        written = await checked_text(
            synthesis, context.blocks, token_budget=request.token_budget, tokens=self._tokens
        )
        if written is None:
            return "the response does not cite the blocks"
        is_cut = not written.is_whole and TOKEN_BUDGET not in context.degraded
        return replace(
            context,
            text=written.text,
            citations=written.citations,
            token_count=written.token_count,
            synthesized_by=self._synthesizer.name,
            degraded=[*context.degraded, *([TOKEN_BUDGET] if is_cut else [])],
        )

    def _note(self, scope: Scope, calls: Sequence[ModelCall]) -> None:
        if self._spending is not None:
            self._spending.record(scope, "synthesis", calls, blocks=0)


def _context_block(hit: SearchHit) -> ContextBlock:
    block = hit.block
    return ContextBlock(
        id=block.id,
        content=block.content,
        is_cut=False,
        score=round(hit.score, _DIGITS),
        relevance=round(hit.relevance, _DIGITS),
        occurred_at=block.occurred_at,
        speaker=block.speaker,
        session_id=block.session_id,
        source=block.source,
        title=block.title,
    )


def _templated(fitted: Fitted, degraded: Sequence[str], *, is_relevant: bool) -> Context:
    return Context(
        blocks=fitted.blocks,
        text=fitted.text,
        citations=[Citation(mark, block.id) for mark, block in enumerate(fitted.blocks, 1)],
        token_count=fitted.token_count,
        synthesized_by=None,
        is_relevant=is_relevant,
        degraded=degraded,
    )
