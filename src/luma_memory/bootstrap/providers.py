"""Settings in, providers out: enricher, embedder and their circuit breakers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from luma_memory.cache.in_process import InProcessCache
from luma_memory.domain.clock import Clock
from luma_memory.domain.extras import missing_extra
from luma_memory.domain.usage import DailyLimits
from luma_memory.ports.accounts import Prices
from luma_memory.ports.cache import Cache
from luma_memory.ports.circuits import Circuits
from luma_memory.ports.models import (
    Embedder,
    Enricher,
    Relator,
    Reranker,
    Summarizer,
    Synthesizer,
    TokenCounter,
)
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.completion.local_summary import LocalSummarizer
from luma_memory.providers.embedding.caching import CachingEmbedder
from luma_memory.providers.embedding.coalescing import CoalescingEmbedder
from luma_memory.providers.tokens import CountedTokens, EstimatedTokens
from luma_memory.settings import Settings

if TYPE_CHECKING:
    from luma_memory.providers.completion.local import LocalEnricher
    from luma_memory.providers.embedding.local import LocalEmbedder
    from luma_memory.providers.model_provider import ModelProvider

# Share of a job's time for the model provider: the rest is for the fallback, whose enrichment of
# the longest block takes about a second. A call ends earlier, so its timeout is seen as one.
PROVIDER_SHARE = 0.8
CALL_SHARE = 0.75
# Jobs that are embedded together end together, and then share their write-back and the next claim.
# Half of a worker's jobs form a group, so that one is embedded while the other is written; larger
# groups need fewer statements.
LOCAL_GROUP = (16, 64)
# Shorter than recall waits, so that a hanging service opens its circuit and is soon skipped.
RERANK_SECONDS_MAX = 1.5
# About four thousand queries.
LOCAL_VECTORS_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Providers:
    """The models; None if a step is disabled."""

    enricher: Enricher | None
    embedder: Embedder | None
    synthesizer: Synthesizer | None
    reranker: Reranker | None
    summarizer: Summarizer | None
    relator: Relator | None
    fallback: LocalEnricher | None  # enriches if the provider fails
    falls_back: bool  # whether local methods replace a failing provider
    tokens: TokenCounter  # counts a context's budget
    embedding_model_id: str | None
    vectors_name: str  # the embedding model with everything that changes its vectors
    circuits: Sequence[str]  # of models called over a network
    names: dict[str, str]  # of the models for "enrichment" and "embedding"

    async def close(self) -> None:
        for provider in (
            *(self.embedder, self.enricher, self.synthesizer),
            *(self.reranker, self.summarizer, self.relator),
        ):
            if provider is not None:
                await provider.close()


async def open_providers(
    settings: Settings, circuits: Circuits, cache: Cache, clock: Clock
) -> Providers:
    """Raises SetupError for a provider that cannot be used."""

    def breaker_of(name: str) -> Breaker:
        return Breaker(circuits, name, clock=clock)

    provider = model_provider(settings, breaker_of) if settings.has_completion_provider else None
    enricher = _enricher(settings, provider)
    embedding = await _embedding(settings, provider, cache, clock)
    used = provider.circuits if provider and enricher else ()
    return Providers(
        enricher=enricher,
        embedder=embedding.embedder,
        synthesizer=provider.synthesizer() if provider and settings.synthesis_enabled else None,
        reranker=_reranker(settings, breaker_of),
        summarizer=_summarizer(settings, provider),
        relator=_relator(settings, provider),
        fallback=_local_enricher() if provider and enricher and not settings.fail_fast else None,
        falls_back=not settings.fail_fast,
        tokens=embedding.tokens,
        embedding_model_id=embedding.model_id,
        vectors_name=embedding.vectors_name,
        circuits=[*used, *embedding.circuits],
        names={
            "enrichment": enricher.name if enricher else "off",
            "embedding": embedding.name,
        },
    )


def _enricher(settings: Settings, provider: ModelProvider | None) -> Enricher | None:
    if not settings.enrichment_enabled:
        return None
    return provider.enricher() if provider else _local_enricher()


def _local_enricher() -> LocalEnricher:
    """Imported on demand: operator commands never enrich, and would start half a second later."""
    from luma_memory.providers.completion.local import LocalEnricher

    return LocalEnricher()


def _summarizer(settings: Settings, provider: ModelProvider | None) -> Summarizer | None:
    if not settings.weekly_summaries_enabled:
        return None
    return provider.summarizer() if provider else LocalSummarizer()


def _relator(settings: Settings, provider: ModelProvider | None) -> Relator | None:
    if not settings.relations_enabled:
        return None
    if provider:
        return provider.relator()
    from luma_memory.providers.completion.local_relations import LocalRelator

    return LocalRelator()


def _reranker(settings: Settings, breaker_of: Callable[[str], Breaker]) -> Reranker | None:
    if settings.rerank_url is None:
        return None
    from luma_memory.providers.model_provider import http_reranker

    return http_reranker(
        model=settings.rerank_model,
        api_key=settings.rerank_api_key,
        base_url=settings.rerank_url,
        timeout_seconds=min(RERANK_SECONDS_MAX, settings.provider_timeout_ms / 1000),
        breaker_of=breaker_of,
    )


@dataclass(frozen=True, slots=True)
class _Embedding:
    """The embedder with its query cache, and the tokenizer that measures a context's budget."""

    embedder: Embedder | None
    tokens: TokenCounter
    model_id: str | None = None
    name: str = "off"
    vectors_name: str = "off"
    circuits: Sequence[str] = ()


async def _embedding(
    settings: Settings, provider: ModelProvider | None, cache: Cache, clock: Clock
) -> _Embedding:
    if not settings.embedding_enabled:
        return _Embedding(None, EstimatedTokens())
    ttl = timedelta(seconds=settings.cache_ttl_seconds)
    if provider is None or not settings.has_model_provider:
        local = await _local_embedder(settings)
        name = local.model.id
        # Computing a vector takes about as long as reading it from Redis.
        own = InProcessCache(size_bytes_max=LOCAL_VECTORS_BYTES, clock=clock)
        return _Embedding(
            CachingEmbedder(_shared(local, settings), own, name=name, ttl=ttl),
            CountedTokens(name, local.tokens),
            model_id=name,
            name=name,
            vectors_name=name,
        )
    embedder, model_id, circuit = provider.embedder(
        settings.embedding_model, settings.embedding_dimension
    )
    # Everything that changes its vectors: different services use the same names.
    vectors_name = (
        f"{settings.embedding_model} {settings.embedding_dimension} {settings.openai_base_url}"
    )
    return _Embedding(
        CachingEmbedder(embedder, cache, name=vectors_name, ttl=ttl),
        EstimatedTokens(),
        model_id=model_id,
        # A provider's dimension, and with it its model's description, may be known only later.
        name=settings.embedding_model,
        vectors_name=vectors_name,
        circuits=[circuit],
    )


async def open_embedder(
    settings: Settings, circuits: Circuits, clock: Clock, model_id: str
) -> Embedder | None:
    """An embedder by its model's id, with the configured accounts; None without such a model."""
    vendor, _, name = model_id.partition("/")
    if vendor == "openai" and settings.has_model_provider:
        model, _, dimension = name.partition("@")
        provider = model_provider(settings, lambda name: Breaker(circuits, name, clock=clock))
        embedder, found, _ = provider.embedder(
            model, int(dimension) if dimension.isdigit() else None
        )
    else:
        local = await _local_embedder(settings)
        if local.model.replaces == model_id:
            await local.close()
            local = await _local_embedder(settings, names_speakers=False)
        embedder, found = _shared(local, settings), local.model.id
    if found == model_id:
        return embedder
    await embedder.close()
    return None


async def _local_embedder(settings: Settings, *, names_speakers: bool = True) -> LocalEmbedder:
    """Raises SetupError where the model, or the extra that runs it, is not installed."""
    try:
        from luma_memory.providers.embedding.local import LocalEmbedder
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    return await LocalEmbedder.open(
        settings.local_model, cache_dir=settings.model_cache_dir, names_speakers=names_speakers
    )


def _shared(local: LocalEmbedder, settings: Settings) -> Embedder:
    least, most = LOCAL_GROUP
    group = min(max(settings.worker_max_concurrent_jobs // 2, least), most)
    return CoalescingEmbedder(local, jobs_max=group, calls_max=2)


def model_provider(settings: Settings, breaker_of: Callable[[str], Breaker]) -> ModelProvider:
    """The configured account. Imported on demand, because its libraries take seconds to load."""
    from luma_memory.providers.model_provider import Account, ModelProvider

    return ModelProvider(
        Account(api_key=settings.openai_api_key, base_url=settings.openai_base_url),
        models=settings.completion_models,
        timeout_seconds=_call_seconds(settings),
        breaker_of=breaker_of,
    )


def prices_of(base_url: str | None) -> Prices:
    """The price table; importing it takes a moment."""
    from luma_memory.providers.prices import TablePrices

    return TablePrices(base_url)


def daily_limits(settings: Settings) -> DailyLimits:
    """A user's daily limits."""
    return DailyLimits(
        settings.daily_budget_calls, settings.daily_budget_tokens, settings.daily_budget_usd
    )


def provider_timeout(settings: Settings) -> timedelta | None:
    """The share of a job's time that a model provider may use: the rest is for the fallback."""
    job = timedelta(milliseconds=settings.worker_job_timeout_ms)
    waits = settings.has_completion_provider and not settings.fail_fast
    return job * PROVIDER_SHARE if waits else None


def _call_seconds(settings: Settings) -> float:
    job_ms = settings.worker_job_timeout_ms
    return min(settings.provider_timeout_ms, job_ms * CALL_SHARE) / 1000
