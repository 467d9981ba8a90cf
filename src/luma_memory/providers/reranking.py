"""Reranking by a service that speaks Cohere's protocol: POST /rerank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, Field
from pydantic_core import to_json

from luma_memory.domain.errors import ProviderResponseInvalid
from luma_memory.providers.api_key import ApiKey
from luma_memory.providers.breaker import Breaker
from luma_memory.providers.fault_translation import provider_faults
from luma_memory.providers.service_client import ServiceClient

# An index and a score per text; the cap rejects services that send the texts back.
BODY_BYTES_MAX: Final = 4 * 1024 * 1024


class _Result(BaseModel):
    index: int = Field(ge=0)
    relevance_score: float


class _Response(BaseModel):
    results: list[_Result]


class HttpReranker:
    """`ports.models.Reranker`; one call, no retry. Behind a breaker: an unavailable service costs
    only the first few searches time.

    base_url: without `/rerank`.
    """

    def __init__(
        self,
        *,
        model: str,
        api_key: ApiKey,
        base_url: str,
        timeout_seconds: float,
        breaker: Breaker,
    ) -> None:
        self._model = model
        self._breaker = breaker
        self._client = ServiceClient(
            api_key=api_key,
            base_url=base_url,
            timeout_seconds=timeout_seconds,
            body_bytes_max=BODY_BYTES_MAX,
        )

    @property
    def name(self) -> str:
        return f"{self._client.address} {self._model}"

    async def rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        return await self._breaker.call(lambda: self._rerank(query, texts))

    async def close(self) -> None:
        await self._client.close()

    async def _rerank(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        body = {
            "model": self._model,
            "query": query,
            "documents": list(texts),
            "top_n": len(texts),
        }
        with provider_faults():
            body_received = await self._client.post("rerank", to_json(body))
            response = _Response.model_validate_json(body_received)
        return _scores(response, len(texts))


def _scores(response: _Response, count: int) -> Sequence[float]:
    """One score per text, in the order of the texts. Raises ProviderResponseInvalid."""
    scores = {result.index: result.relevance_score for result in response.results}
    is_whole = len(response.results) == len(scores) == count and set(scores) == set(range(count))
    if not is_whole or not all(map(math.isfinite, scores.values())):
        raise ProviderResponseInvalid("The reranker did not score each text once.")
    return [scores[index] for index in range(count)]
