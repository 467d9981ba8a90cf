"""The adapters of one account at a model provider.

A module of its own because importing its libraries costs a process about two seconds of CPU:
`bootstrap` loads it only where a provider is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

from luma_memory.ports.models import Embedder
from luma_memory.providers.api_key import ApiKey, revealed
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.completion.completion_model import completion_model
from luma_memory.providers.completion.openai_compatible import ModelEnricher
from luma_memory.providers.completion.relations import ModelRelator
from luma_memory.providers.completion.structured_call import Target
from luma_memory.providers.completion.synthesis import ModelSynthesizer
from luma_memory.providers.completion.weekly_summary import ModelSummarizer
from luma_memory.providers.embedding.coalescing import CoalescingEmbedder
from luma_memory.providers.embedding.guarded import GuardedEmbedder
from luma_memory.providers.embedding.openai_compatible import OpenAIEmbedder
from luma_memory.providers.reranking import HttpReranker

# Clients require a key, even for servers without keys.
_NO_KEY = "none"
# Jobs that share a call end together, and then compete for the processor: with 50 concurrent jobs
# and 300 ms of latency, calls of 16 made 115 blocks/s, calls of 4 made 125.
JOBS_PER_CALL = 4
# A call that waits for another one to return adds to its jobs' time.
CALLS_MAX = 64
BreakerOf: TypeAlias = Callable[[str], Breaker]


@dataclass(frozen=True, slots=True)
class Account:
    """The service and the key; a circuit belongs to one of them."""

    api_key: ApiKey
    base_url: str | None

    def circuit(self, step: str, model: str) -> str:
        """The name of the circuit: it distinguishes accounts without revealing the key."""
        mark = sha256(f"{self.base_url}\n{revealed(self.api_key)}".encode()).hexdigest()[:12]
        return f"{step} {model} @{mark}"


class ModelProvider:
    """Completions and embeddings of one account; enrichment, relations and summaries share models,
    circuits and connections.

    models: of completion, in order of preference; `vendor:model` names a vendor with a protocol of
    its own. timeout_seconds: for all of them together: each gets its share, so that one that hangs
    leaves time for the others.
    """

    def __init__(
        self,
        account: Account,
        *,
        models: Sequence[str],
        timeout_seconds: float,
        breaker_of: BreakerOf,
    ) -> None:
        """Opens no connection yet. Nothing is checked before an adapter is created."""
        self._account = account
        self._models = models
        self._timeout_seconds = timeout_seconds
        self._breaker_of = breaker_of
        self._targets: Sequence[Target] | None = None

    @property
    def circuits(self) -> Sequence[str]:
        """The circuits of the completion models. Raises SetupError as `enricher`."""
        return [self._circuit(target.model.id) for target in self._all()]

    def enricher(self) -> ModelEnricher:
        """Raises SetupError for a model, key or address that cannot be used."""
        return ModelEnricher(self._all())

    def relator(self) -> ModelRelator:
        """Raises as `enricher`."""
        return ModelRelator(self._all())

    def summarizer(self) -> ModelSummarizer:
        """Raises as `enricher`."""
        return ModelSummarizer(self._all())

    def synthesizer(self) -> ModelSynthesizer:
        """Uses only the preferred model: a caller is waiting, and the template is the fallback.

        Raises as `enricher`.
        """
        return ModelSynthesizer([self._target(self._models[0], self._timeout_seconds)])

    def embedder(self, model: str, dimension: int | None) -> tuple[Embedder, str, str]:
        """The embedder, whose concurrent calls share requests; the model's id; its circuit.

        Raises as `enricher`.
        """
        plain = OpenAIEmbedder(
            model=model,
            api_key=self._account.api_key or _NO_KEY,
            base_url=self._account.base_url,
            dimension=dimension,
            timeout_seconds=self._timeout_seconds,
        )
        circuit = self._account.circuit("embed", plain.model_id)
        guarded = GuardedEmbedder(plain, self._breaker_of(circuit))
        embedder = CoalescingEmbedder(
            guarded, jobs_max=JOBS_PER_CALL, calls_max=CALLS_MAX, embed_each=guarded.embed_each
        )
        return embedder, plain.model_id, circuit

    def _all(self) -> Sequence[Target]:
        if self._targets is None:
            share = self._timeout_seconds / len(self._models)
            self._targets = [self._target(model, share) for model in self._models]
        return self._targets

    def _target(self, model: str, timeout_seconds: float) -> Target:
        completion = completion_model(
            model,
            api_key=self._account.api_key or _NO_KEY,
            base_url=self._account.base_url,
            timeout_seconds=timeout_seconds,
        )
        return Target(completion, self._breaker_of(self._circuit(completion.id)))

    def _circuit(self, model_id: str) -> str:
        return self._account.circuit("complete", model_id)


def http_reranker(
    *, model: str, api_key: ApiKey, base_url: str, timeout_seconds: float, breaker_of: BreakerOf
) -> HttpReranker:
    """Reranking by a service that speaks Cohere's protocol."""
    account = Account(api_key=api_key, base_url=base_url)
    return HttpReranker(
        model=model,
        api_key=api_key or _NO_KEY,
        base_url=base_url,
        timeout_seconds=timeout_seconds,
        breaker=breaker_of(account.circuit("rerank", model)),
    )
