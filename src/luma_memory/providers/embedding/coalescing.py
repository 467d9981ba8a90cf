"""Embedding calls of concurrent jobs share a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.domain.enrichment import Embedding, EmbeddingModel
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderPaused,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderTimeout,
    ProviderUnavailable,
    is_outage,
)
from luma_memory.ports.models import Embedder
from luma_memory.providers.embedding.outcomes import all_or_first_error
from luma_memory.telemetry import spans

TEXTS_MAX = 2_048
# OpenAI allows 300,000 tokens a call; no text has fewer characters than tokens.
CHARACTERS_MAX = 300_000
# Enough to keep a provider with latency busy; more would only take its rate limit from others.
CALLS_MAX = 8
SUSPECTS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class _Call:
    """The texts of one job."""

    texts: Sequence[str]
    traceparent: str | None  # of the job


EmbedEach: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[Embedding | LumaMemoryError]]]


class CoalescingEmbedder:
    """`ports.models.Embedder` in front of another one, so that concurrent jobs share calls.

    An invalid vector fails only its own job. When the provider refuses a whole call for what may be
    one of its texts, each job's texts are sent once more separately; a refusal of the key or
    the account concerns no single text. When a shared call fails otherwise, one of its texts may
    make the provider fail: at their next attempt its jobs are sent separately.
    """

    def __init__(
        self,
        inner: Embedder,
        *,
        jobs_max: int = TEXTS_MAX,
        calls_max: int = CALLS_MAX,
        embed_each: EmbedEach | None = None,
    ) -> None:
        """jobs_max: maximum number of jobs that share a call; calls_max: calls at the same time.
        embed_each: the inner one's, if it reports invalid vectors one by one.
        """
        self._inner = inner
        self._suspects: dict[int, bool] = {}  # hashes of texts whose shared call failed
        self._embed_each: EmbedEach = embed_each or inner.embed_documents
        self._calls: Coalescer[_Call, Sequence[Embedding]] = Coalescer(
            self._embed_all,
            items_max=jobs_max,
            size_max=CHARACTERS_MAX,
            size_of=lambda call: sum(map(len, call.texts)),
            batches_max=calls_max,
            is_shared=is_outage,
        )

    @property
    def model(self) -> EmbeddingModel:
        return self._inner.model

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        if not texts:
            return []
        if self._suspects.pop(hash(tuple(texts)), None):
            return await self._inner.embed_documents(texts)
        return await self._calls.submit(_Call(texts, spans.traceparent()))

    async def embed_query(self, text: str) -> Embedding:
        return await self._inner.embed_query(text)

    async def close(self) -> None:
        await self._calls.close()
        await self._inner.close()

    def _suspect(self, calls: Sequence[_Call]) -> None:
        for call in calls:
            self._suspects[hash(tuple(call.texts))] = True
        while len(self._suspects) > SUSPECTS_MAX:
            self._suspects.pop(next(iter(self._suspects)))

    async def _embed_all(self, calls: Sequence[_Call]) -> Sequence[Sequence[Embedding] | Exception]:
        texts = [text for call in calls for text in call.texts]
        try:
            outcomes = iter(await self._embedded(texts, calls))
        except ProviderRejected as error:
            if error.concerns_account:
                return [error] * len(calls)
            raise
        except ProviderPaused:
            raise
        except (ProviderUnavailable, ProviderTimeout, ProviderResponseInvalid) as error:
            if len(calls) > 1:
                self._suspect(calls)
            return [error] * len(calls)
        return [_own([next(outcomes) for _ in call.texts]) for call in calls]

    async def _embedded(
        self, texts: Sequence[str], calls: Sequence[_Call]
    ) -> Sequence[Embedding | LumaMemoryError]:
        """Traced in the first job; the others are linked to it."""
        if not spans.is_on():
            return await self._embed_each(texts)
        first, *others = [call.traceparent or spans.NEW_TRACE for call in calls]
        values = {"luma.texts": len(texts), "luma.jobs": len(calls)}
        with spans.span("embed together", parent=first, links=others, values=values):
            return await self._embed_each(texts)


def _own(outcomes: Sequence[Embedding | LumaMemoryError]) -> Sequence[Embedding] | Exception:
    try:
        return all_or_first_error(outcomes)
    except LumaMemoryError as error:
        return error
