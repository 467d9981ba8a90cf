"""Which callers get which result when embedding calls are shared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from luma_memory.domain.enrichment import Embedding
from luma_memory.domain.errors import (
    LumaMemoryError,
    ProviderPaused,
    ProviderRejected,
    ProviderResponseInvalid,
    ProviderUnavailable,
)
from luma_memory.providers.embedding.coalescing import CoalescingEmbedder
from luma_memory.testing.models import WordEmbedder

BAD = "bad"


class Breaking(WordEmbedder):
    """Fails every call that holds the bad text, with a given error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.sent: list[list[str]] = []

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        self.sent.append(list(texts))
        await asyncio.sleep(0)
        if BAD in texts:
            raise self.error
        return await super().embed_documents(texts)

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Embedding | LumaMemoryError]:
        return await self.embed_documents(texts)


async def _all(embedder: CoalescingEmbedder, texts: Sequence[str]) -> list[object]:
    calls = (embedder.embed_documents([text]) for text in texts)
    return list(await asyncio.gather(*calls, return_exceptions=True))


TEXTS = ["one", BAD, "two", "three"]


@pytest.mark.parametrize("error", [ProviderUnavailable("x"), ProviderResponseInvalid("x")])
async def test_after_a_shared_failure_each_goes_alone(error: LumaMemoryError) -> None:
    inner = Breaking(error)
    embedder = CoalescingEmbedder(inner, embed_each=inner.embed_each)
    first = await _all(embedder, TEXTS)
    assert first == [error] * 4
    assert inner.sent == [TEXTS]
    second = await _all(embedder, TEXTS)
    assert [outcome is error for outcome in second] == [False, True, False, False]
    assert inner.sent[1:] == [[text] for text in TEXTS]
    # Who went well shares again.
    assert error not in await _all(embedder, ["one", "two"])
    assert inner.sent[5:] == [["one", "two"]]


async def test_a_rejected_text_is_isolated_immediately() -> None:
    inner = Breaking(ProviderRejected("no", code="provider_refused"))
    outcomes = await _all(CoalescingEmbedder(inner, embed_each=inner.embed_each), TEXTS)
    assert [isinstance(outcome, ProviderRejected) for outcome in outcomes] == [
        False, True, False, False,
    ]  # fmt: skip
    assert inner.sent == [TEXTS, *([text] for text in TEXTS)]


@pytest.mark.parametrize(
    "error",
    [
        ProviderRejected("no", code="provider_bad_key"),
        ProviderPaused("down", retry_after_seconds=1),
    ],
)
async def test_what_concerns_all_costs_one_call(error: LumaMemoryError) -> None:
    inner = Breaking(error)
    assert await _all(CoalescingEmbedder(inner, embed_each=inner.embed_each), TEXTS) == [error] * 4
    assert inner.sent == [TEXTS]
