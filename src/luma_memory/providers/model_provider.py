"""The model provider's adapters, from plain values.

A module of its own because importing their libraries costs a process about two seconds of CPU:
`bootstrap` loads it only where a provider is configured.
"""

from __future__ import annotations

from luma_memory.domain.ports import Embedder, Enricher, Synthesizer
from luma_memory.providers.completion.openai_compatible import ModelEnricher
from luma_memory.providers.completion.synthesis import ModelSynthesizer
from luma_memory.providers.embedding.coalescing import CoalescingEmbedder
from luma_memory.providers.embedding.openai_compatible import OpenAIEmbedder
from luma_memory.providers.openai_client import ApiKey

# Servers that ask for no key still need the client to send some.
_NO_KEY = "none"


def model_embedder(
    *,
    model: str,
    api_key: ApiKey | None,
    base_url: str | None,
    dimension: int | None,
    timeout_seconds: float,
) -> Embedder:
    """Embeddings of an OpenAI-compatible service; calls of concurrent jobs share requests."""
    return CoalescingEmbedder(
        OpenAIEmbedder(
            model=model,
            api_key=api_key or _NO_KEY,
            base_url=base_url,
            dimension=dimension,
            timeout_seconds=timeout_seconds,
        )
    )


def model_enricher(
    *, model: str, api_key: ApiKey | None, base_url: str | None, timeout_seconds: float
) -> Enricher:
    """Enrichment by a model; `vendor:model` names another vendor than OpenAI's protocol."""
    return ModelEnricher(
        model=model,
        api_key=api_key or _NO_KEY,
        base_url=base_url,
        timeout_seconds=timeout_seconds,
    )


def model_synthesizer(
    *, model: str, api_key: ApiKey | None, base_url: str | None, timeout_seconds: float
) -> Synthesizer:
    """Synthesis by the model that enriches."""
    return ModelSynthesizer(
        model=model,
        api_key=api_key or _NO_KEY,
        base_url=base_url,
        timeout_seconds=timeout_seconds,
    )
