"""The model provider's adapters, from plain values.

A module of its own because importing their libraries costs a process about two seconds of CPU:
`bootstrap` loads it only where a provider is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias, TypeVar

from luma_memory.ports.accounts import Prices
from luma_memory.ports.models import Embedder, Enricher, Relator, Reranker, Summarizer, Synthesizer
from luma_memory.providers.api_key import ApiKey, revealed
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.completion.guarded import (
    FirstEnricher,
    FirstRelator,
    FirstSummarizer,
    GuardedEnricher,
    GuardedRelator,
    GuardedSummarizer,
    GuardedSynthesizer,
)
from luma_memory.providers.completion.openai_compatible import ModelEnricher
from luma_memory.providers.completion.prompted_model import PromptedModel
from luma_memory.providers.completion.relations import ModelRelator
from luma_memory.providers.completion.synthesis import ModelSynthesizer
from luma_memory.providers.completion.weekly_summary import ModelSummarizer
from luma_memory.providers.embedding.coalescing import CoalescingEmbedder
from luma_memory.providers.embedding.guarded import GuardedEmbedder
from luma_memory.providers.embedding.openai_compatible import OpenAIEmbedder
from luma_memory.providers.prices import TablePrices
from luma_memory.providers.reranking import HttpReranker

# Servers that ask for no key still need the client to send some.
_NO_KEY = "none"
# Jobs that share a call end together, and then all want the processor at once: with 50 jobs at once
# and 300 ms of latency, calls of 16 made 115 blocks/s, calls of 4 made 125.
JOBS_PER_CALL = 4
# A call that waits for another to land adds to its jobs' time.
CALLS_MAX = 64
BreakerOf: TypeAlias = Callable[[str], Breaker]
PromptedT = TypeVar("PromptedT", bound=PromptedModel[Any])


@dataclass(frozen=True, slots=True)
class Account:
    """Where and as whom to call; what a breaker learns holds for one of them."""

    api_key: ApiKey
    base_url: str | None

    def circuit(self, step: str, model: str) -> str:
        """The name of the circuit: it tells accounts apart and gives none away."""
        mark = sha256(f"{self.base_url}\n{revealed(self.api_key)}".encode()).hexdigest()[:12]
        return f"{step} {model} @{mark}"


def model_embedder(
    account: Account,
    *,
    model: str,
    dimension: int | None,
    timeout_seconds: float,
    breaker_of: BreakerOf,
) -> tuple[Embedder, str, str]:
    """Embeddings of an OpenAI-compatible service, calls of concurrent jobs sharing requests; the
    model's id, and its circuit.
    """
    plain = OpenAIEmbedder(
        model=model,
        api_key=account.api_key or _NO_KEY,
        base_url=account.base_url,
        dimension=dimension,
        timeout_seconds=timeout_seconds,
    )
    circuit = account.circuit("embed", plain.model_id)
    guarded = GuardedEmbedder(plain, breaker_of(circuit))
    embedder = CoalescingEmbedder(
        guarded, jobs_max=JOBS_PER_CALL, calls_max=CALLS_MAX, embed_each=guarded.embed_each
    )
    return embedder, plain.model_id, circuit


def model_enricher(
    account: Account,
    *,
    models: Sequence[str],
    timeout_seconds: float,
    breaker_of: BreakerOf,
) -> tuple[Enricher, Sequence[str]]:
    """Enrichment by the first of the models that answers, and their circuits.

    `vendor:model` names another vendor than OpenAI's protocol. timeout_seconds: for all together;
    each gets its part, so that one that hangs leaves time for the next.
    """
    each = list(_each_of(ModelEnricher, account, models, timeout_seconds, breaker_of))
    guarded = [GuardedEnricher(plain, breaker) for plain, breaker, _ in each]
    circuits = [circuit for _, _, circuit in each]
    return (guarded[0] if len(guarded) == 1 else FirstEnricher(guarded)), circuits


def _each_of(
    kind: type[PromptedT],
    account: Account,
    models: Sequence[str],
    timeout_seconds: float,
    breaker_of: BreakerOf,
) -> Iterator[tuple[PromptedT, Breaker, str]]:
    """One step by each of the models, with the breaker and the name of its circuit."""
    for model in models:
        plain = kind(
            model=model,
            api_key=account.api_key or _NO_KEY,
            base_url=account.base_url,
            timeout_seconds=timeout_seconds / len(models),
        )
        circuit = account.circuit("complete", plain.model_id)
        yield plain, breaker_of(circuit), circuit


def model_synthesizer(
    account: Account, *, model: str, timeout_seconds: float, breaker_of: BreakerOf
) -> Synthesizer:
    """Synthesis by the model that enriches, behind the same circuit."""
    plain = ModelSynthesizer(
        model=model,
        api_key=account.api_key or _NO_KEY,
        base_url=account.base_url,
        timeout_seconds=timeout_seconds,
    )
    return GuardedSynthesizer(plain, breaker_of(account.circuit("complete", plain.model_id)))


def http_reranker(
    *, model: str, api_key: ApiKey, base_url: str, timeout_seconds: float, breaker_of: BreakerOf
) -> Reranker:
    """Reranking by a service that speaks Cohere's protocol."""
    account = Account(api_key=api_key, base_url=base_url)
    return HttpReranker(
        model=model,
        api_key=api_key or _NO_KEY,
        base_url=base_url,
        timeout_seconds=timeout_seconds,
        breaker=breaker_of(account.circuit("rerank", model)),
    )


def model_summarizer(
    account: Account, *, models: Sequence[str], timeout_seconds: float, breaker_of: BreakerOf
) -> Summarizer:
    """Weekly summaries by the models that enrich, in the same order, behind the same circuits."""
    each = _each_of(ModelSummarizer, account, models, timeout_seconds, breaker_of)
    guarded = [GuardedSummarizer(plain, breaker) for plain, breaker, _ in each]
    return guarded[0] if len(guarded) == 1 else FirstSummarizer(guarded)


def model_relator(
    account: Account, *, models: Sequence[str], timeout_seconds: float, breaker_of: BreakerOf
) -> Relator:
    """Relations by the models that enrich, in the same order, behind the same circuits."""
    each = _each_of(ModelRelator, account, models, timeout_seconds, breaker_of)
    guarded = [GuardedRelator(plain, breaker) for plain, breaker, _ in each]
    return guarded[0] if len(guarded) == 1 else FirstRelator(guarded)


def model_prices(base_url: str | None) -> Prices:
    """Prices of what these providers do."""
    return TablePrices(base_url)
