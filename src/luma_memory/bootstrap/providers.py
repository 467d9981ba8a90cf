"""Settings in, providers out: who enriches and embeds, behind which breakers, at which price."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, Protocol

from pydantic import SecretStr

from luma_memory.cache.in_process import InProcessCache
from luma_memory.domain.clock import Clock
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
from luma_memory.providers.completion.local import LocalEnricher
from luma_memory.providers.completion.local_relations import LocalRelator
from luma_memory.providers.completion.local_summary import LocalSummarizer
from luma_memory.providers.embedding.caching import CachingEmbedder
from luma_memory.providers.embedding.coalescing import CoalescingEmbedder
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.providers.tokens import CountedTokens, EstimatedTokens
from luma_memory.settings import Settings

# Of a job's time, for the model provider: the rest is the fallback's, whose enrichment of the
# longest block takes about a second. A call ends before, and so is known to have timed out.
PROVIDER_SHARE = 0.8
CALL_SHARE = 0.75
# Jobs that are embedded together end together, and then share their write-back and the next claim.
# Half of a worker's jobs make a group, so that one is embedded while the other is written down; the
# larger, the fewer statements.
LOCAL_GROUP = (16, 64)
# Less than recall waits: a service that hangs is then known to, and soon not asked any more.
RERANK_SECONDS_MAX = 1.5
# Some four thousand questions.
LOCAL_VECTORS_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Providers:
    """Who does the work of the models; None where that step is switched off."""

    enricher: Enricher | None
    embedder: Embedder | None
    synthesizer: Synthesizer | None
    reranker: Reranker | None
    summarizer: Summarizer | None
    relator: Relator | None
    fallback: Enricher | None  # who enriches when the provider cannot
    falls_back: bool  # whether anything is made locally when the provider cannot
    tokens: TokenCounter  # in which a context's budget is counted
    embedding_model_id: str | None
    vectors_name: str  # the embedding model with everything that changes its vectors
    circuits: Sequence[str]  # of those that are called over a network
    names: dict[str, str]  # "enrichment" and "embedding" to what does it

    async def close(self) -> None:
        for provider in (
            *(self.embedder, self.enricher, self.synthesizer),
            *(self.reranker, self.summarizer, self.relator),
        ):
            if provider is not None:
                await provider.close()


class ModelProvider(Protocol):
    """What `providers.model_provider` offers."""

    def Account(self, *, api_key: SecretStr | None, base_url: str | None) -> Any: ...  # noqa: N802

    def model_embedder(
        self,
        account: Any,
        *,
        model: str,
        dimension: int | None,
        timeout_seconds: float,
        breaker_of: Callable[[str], Breaker],
    ) -> tuple[Embedder, str, str]: ...

    def model_enricher(
        self,
        account: Any,
        *,
        models: Sequence[str],
        timeout_seconds: float,
        breaker_of: Callable[[str], Breaker],
    ) -> tuple[Enricher, Sequence[str]]: ...

    def model_synthesizer(
        self,
        account: Any,
        *,
        model: str,
        timeout_seconds: float,
        breaker_of: Callable[[str], Breaker],
    ) -> Synthesizer: ...

    def http_reranker(
        self,
        *,
        model: str,
        api_key: SecretStr | None,
        base_url: str,
        timeout_seconds: float,
        breaker_of: Callable[[str], Breaker],
    ) -> Reranker: ...

    def model_summarizer(
        self,
        account: Any,
        *,
        models: Sequence[str],
        timeout_seconds: float,
        breaker_of: Callable[[str], Breaker],
    ) -> Summarizer: ...

    def model_relator(
        self,
        account: Any,
        *,
        models: Sequence[str],
        timeout_seconds: float,
        breaker_of: Callable[[str], Breaker],
    ) -> Relator: ...

    def model_prices(self, base_url: str | None) -> Prices: ...


async def open_providers(
    settings: Settings, circuits: Circuits, cache: Cache, clock: Clock
) -> Providers:
    """Raises SetupError where one of them cannot be had."""

    def breaker_of(name: str) -> Breaker:
        return Breaker(circuits, name, clock=clock)

    enricher, used = _enricher(settings, breaker_of)
    embedding = await _embedding(settings, breaker_of, cache, clock)
    return Providers(
        enricher=enricher,
        embedder=embedding.embedder,
        synthesizer=_synthesizer(settings, breaker_of),
        reranker=_reranker(settings, breaker_of),
        summarizer=_summarizer(settings, breaker_of),
        relator=_relator(settings, breaker_of),
        fallback=_fallback(settings),
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


def _enricher(
    settings: Settings, breaker_of: Callable[[str], Breaker]
) -> tuple[Enricher | None, Sequence[str]]:
    if not settings.enrichment_enabled:
        return None, ()
    if not settings.has_completion_provider:
        return LocalEnricher(), ()
    return model_provider().model_enricher(
        _account(settings),
        models=settings.completion_models,
        timeout_seconds=_call_seconds(settings),
        breaker_of=breaker_of,
    )


def _summarizer(settings: Settings, breaker_of: Callable[[str], Breaker]) -> Summarizer | None:
    if not settings.weekly_summaries_enabled:
        return None
    if not settings.has_completion_provider:
        return LocalSummarizer()
    return model_provider().model_summarizer(
        _account(settings),
        models=settings.completion_models,
        timeout_seconds=_call_seconds(settings),
        breaker_of=breaker_of,
    )


def _relator(settings: Settings, breaker_of: Callable[[str], Breaker]) -> Relator | None:
    if not settings.relations_enabled:
        return None
    if not settings.has_completion_provider:
        return LocalRelator()
    return model_provider().model_relator(
        _account(settings),
        models=settings.completion_models,
        timeout_seconds=_call_seconds(settings),
        breaker_of=breaker_of,
    )


def _synthesizer(settings: Settings, breaker_of: Callable[[str], Breaker]) -> Synthesizer | None:
    if not settings.synthesis_enabled or not settings.has_completion_provider:
        return None
    return model_provider().model_synthesizer(
        _account(settings),
        model=settings.completion_model,
        timeout_seconds=_call_seconds(settings),
        breaker_of=breaker_of,
    )


def _reranker(settings: Settings, breaker_of: Callable[[str], Breaker]) -> Reranker | None:
    if settings.rerank_url is None:
        return None
    return model_provider().http_reranker(
        model=settings.rerank_model,
        api_key=settings.rerank_api_key,
        base_url=settings.rerank_url,
        timeout_seconds=min(RERANK_SECONDS_MAX, settings.provider_timeout_ms / 1000),
        breaker_of=breaker_of,
    )


@dataclass(frozen=True, slots=True)
class _Embedding:
    """What embeds, questions' vectors kept; and whose tokens a context's budget is counted in."""

    embedder: Embedder | None
    tokens: TokenCounter
    model_id: str | None = None
    name: str = "off"
    vectors_name: str = "off"
    circuits: Sequence[str] = ()


async def _embedding(
    settings: Settings, breaker_of: Callable[[str], Breaker], cache: Cache, clock: Clock
) -> _Embedding:
    if not settings.embedding_enabled:
        return _Embedding(None, EstimatedTokens())
    ttl = timedelta(seconds=settings.cache_ttl_seconds)
    if not settings.has_model_provider:
        local = await LocalEmbedder.open(settings.local_model, cache_dir=settings.model_cache_dir)
        name = local.model.id
        # Computing one takes about as long as asking Redis for it.
        own = InProcessCache(size_bytes_max=LOCAL_VECTORS_BYTES, clock=clock)
        return _Embedding(
            CachingEmbedder(_shared(local, settings), own, name=name, ttl=ttl),
            CountedTokens(name, local.tokens),
            model_id=name,
            name=name,
            vectors_name=name,
        )
    embedder, model_id, circuit = model_provider().model_embedder(
        _account(settings),
        model=settings.embedding_model,
        dimension=settings.embedding_dimension,
        timeout_seconds=_call_seconds(settings),
        breaker_of=breaker_of,
    )
    # Everything that changes its vectors: services share names.
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
    """An embedder by the id of its model, with today's accounts; None where there is none."""
    vendor, _, name = model_id.partition("/")
    if vendor == "openai" and settings.has_model_provider:
        model, _, dimension = name.partition("@")
        embedder, found, _ = model_provider().model_embedder(
            _account(settings),
            model=model,
            dimension=int(dimension) if dimension.isdigit() else None,
            timeout_seconds=_call_seconds(settings),
            breaker_of=lambda name: Breaker(circuits, name, clock=clock),
        )
    else:
        local = await LocalEmbedder.open(settings.local_model, cache_dir=settings.model_cache_dir)
        embedder, found = _shared(local, settings), local.model.id
    if found == model_id:
        return embedder
    await embedder.close()
    return None


def _shared(local: LocalEmbedder, settings: Settings) -> Embedder:
    least, most = LOCAL_GROUP
    group = min(max(settings.worker_max_concurrent_jobs // 2, least), most)
    return CoalescingEmbedder(local, jobs_max=group, calls_max=2)


def model_provider() -> ModelProvider:
    """Loaded on demand: its libraries cost seconds that a local installation need not pay."""
    module: Any = import_module("luma_memory.providers.model_provider")
    provider: ModelProvider = module
    return provider


def prices_of(base_url: str | None) -> Prices:
    """The price table, for reports; loading it takes a moment."""
    module: Any = import_module("luma_memory.providers.prices")
    prices: Prices = module.TablePrices(base_url)
    return prices


def daily_limits(settings: Settings) -> DailyLimits:
    """What a user may take of the providers in a day."""
    return DailyLimits(
        settings.daily_budget_calls, settings.daily_budget_tokens, settings.daily_budget_usd
    )


def provider_timeout(settings: Settings) -> timedelta | None:
    """What of a job's time a model provider may use up: the rest is the fallback's."""
    job = timedelta(milliseconds=settings.worker_job_timeout_ms)
    waits = settings.has_completion_provider and not settings.fail_fast
    return job * PROVIDER_SHARE if waits else None


def _call_seconds(settings: Settings) -> float:
    job_ms = settings.worker_job_timeout_ms
    return min(settings.provider_timeout_ms, job_ms * CALL_SHARE) / 1000


def _account(settings: Settings) -> Any:
    return model_provider().Account(
        api_key=settings.openai_api_key, base_url=settings.openai_base_url
    )


def _fallback(settings: Settings) -> Enricher | None:
    wanted = (
        settings.enrichment_enabled and settings.has_completion_provider and not settings.fail_fast
    )
    return LocalEnricher() if wanted else None
