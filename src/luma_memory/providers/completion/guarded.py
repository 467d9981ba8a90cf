"""Completion behind a breaker, and several models one behind the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from luma_memory.domain.context import Synthesis, SynthesisRequest
from luma_memory.domain.enrichment import (
    Enrichment,
    EnrichmentKind,
    EnrichmentRequest,
    ModelCall,
)
from luma_memory.domain.errors import LumaMemoryError, ProviderPaused, RateLimited
from luma_memory.domain.relation import Findings, RelationRequest
from luma_memory.domain.summary import Draft, SummaryRequest
from luma_memory.ports.models import Enricher, Relator, Summarizer, Synthesizer
from luma_memory.providers.breaker import Breaker


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    async def close(self) -> None: ...


InnerT = TypeVar("InnerT", bound=_Named)
AnsweredT = TypeVar("AnsweredT", Enrichment, Findings, Draft)


class _Guarded(Generic[InnerT]):
    """Does not call a provider known to be down."""

    def __init__(self, inner: InnerT, breaker: Breaker) -> None:
        self._inner = inner
        self._breaker = breaker

    @property
    def name(self) -> str:
        return self._inner.name

    async def close(self) -> None:
        await self._inner.close()


class GuardedEnricher(_Guarded[Enricher]):
    """`ports.models.Enricher` behind a breaker."""

    @property
    def kind(self) -> EnrichmentKind:
        return self._inner.kind

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        return await self._breaker.call(lambda: self._inner.enrich(request))


class GuardedSynthesizer(_Guarded[Synthesizer]):
    """`ports.models.Synthesizer` behind a breaker."""

    async def synthesize(self, request: SynthesisRequest) -> Synthesis:
        return await self._breaker.call(lambda: self._inner.synthesize(request))


class GuardedSummarizer(_Guarded[Summarizer]):
    """`ports.models.Summarizer` behind a breaker."""

    async def summarize(self, request: SummaryRequest) -> Draft:
        return await self._breaker.call(lambda: self._inner.summarize(request))


class GuardedRelator(_Guarded[Relator]):
    """`ports.models.Relator` behind a breaker."""

    async def relate(self, request: RelationRequest) -> Findings:
        return await self._breaker.call(lambda: self._inner.relate(request))


class _FirstThatAnswers(Generic[InnerT]):
    """A list of models as one, best first.

    A model that fails, whatever the reason, hands over to the next within the same attempt: at most
    one call a model and attempt. When all fail, a wait that one of them asked for counts (the
    shortest), else the failure that another attempt may mend, else the first one's.
    """

    def __init__(self, models: Sequence[InnerT]) -> None:
        """models: at least one."""
        self._models = models

    @property
    def name(self) -> str:
        return self._models[0].name

    async def close(self) -> None:
        for model in self._models:
            await model.close()

    async def _first(self, ask: Callable[[InnerT], Awaitable[AnsweredT]]) -> AnsweredT:
        """The first answer, with the calls of all who were asked."""
        errors: list[LumaMemoryError] = []
        calls: list[ModelCall] = []
        for model in self._models:
            try:
                answer: AnsweredT = await ask(model)
            except LumaMemoryError as error:
                errors.append(error)
                calls += error.calls
            else:
                return replace(answer, calls=(*calls, *answer.calls))
        last = _the_one_that_counts(errors)
        last.calls = calls
        raise last


class FirstEnricher(_FirstThatAnswers[Enricher]):
    """`ports.models.Enricher` over a list of models."""

    @property
    def kind(self) -> EnrichmentKind:
        return self._models[0].kind

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        return await self._first(lambda model: model.enrich(request))


class FirstRelator(_FirstThatAnswers[Relator]):
    """`ports.models.Relator` over a list of models."""

    async def relate(self, request: RelationRequest) -> Findings:
        return await self._first(lambda model: model.relate(request))


class FirstSummarizer(_FirstThatAnswers[Summarizer]):
    """`ports.models.Summarizer` over a list of models."""

    async def summarize(self, request: SummaryRequest) -> Draft:
        return await self._first(lambda model: model.summarize(request))


def _the_one_that_counts(errors: Sequence[LumaMemoryError]) -> LumaMemoryError:
    waits = [error for error in errors if isinstance(error, RateLimited | ProviderPaused)]
    if len(waits) == len(errors):
        limits = [error for error in waits if isinstance(error, RateLimited)]
        return min(limits or waits, key=lambda error: error.retry_after_seconds)
    asked = [error for error in errors if not isinstance(error, RateLimited | ProviderPaused)]
    # One of them was really asked and failed: that is an attempt. If it was refused for good, and
    # another only asks to wait, waiting may still help.
    mendable = [error for error in asked if error.retryable]
    return next(iter(mendable or waits or asked))
