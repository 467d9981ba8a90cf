"""How calls of the local embedder share its threads."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence

import pytest
from tests.references.tiny_bert import tiny_encoder

from luma_memory.domain.enrichment import Embedding
from luma_memory.domain.errors import ProviderResponseInvalid, ProviderUnavailable
from luma_memory.ports.models import Embedder
from luma_memory.providers.embedding.encoder import TextEncoder
from luma_memory.providers.embedding.local import (
    BYTES_PER_STEP,
    TEXTS_PER_STEP,
    LocalEmbedder,
)

WAIT_SECONDS = 20
TEXTS = [" ".join(letters) for letters in zip("abcdefgh" * 8, "hgfedc" * 11, strict=False)]


class BlockingEncoder(TextEncoder):
    """Blocks on the text "wait" until released, records its calls, and fails on "broken"."""

    released: threading.Event
    reached: threading.Event
    calls: list[Sequence[str]]

    def encode(self, texts: Sequence[str], prompt: str = "") -> list[Embedding]:
        self.calls.append(texts)
        if "wait" in texts:
            self.reached.set()
            assert self.released.wait(WAIT_SECONDS)
        if "broken" in texts:
            raise ProviderResponseInvalid("broken")
        return super().encode(texts)


def blocking_encoder() -> BlockingEncoder:
    encoder = tiny_encoder(kind=BlockingEncoder)
    assert isinstance(encoder, BlockingEncoder)
    encoder.released, encoder.reached, encoder.calls = threading.Event(), threading.Event(), []
    return encoder


async def reached(encoder: BlockingEncoder) -> None:
    assert await asyncio.to_thread(encoder.reached.wait, WAIT_SECONDS)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, TEXTS_PER_STEP, TEXTS_PER_STEP + 1, len(TEXTS)])
async def test_embeddings_come_in_the_order_of_the_texts(threads: int, count: int) -> None:
    encoder = tiny_encoder()
    embedder: Embedder = LocalEmbedder(encoder, threads=threads)
    found = await embedder.embed_documents(TEXTS[:count])
    assert list(found) == [encoder.encode([text])[0] for text in TEXTS[:count]]
    await embedder.close()


@pytest.mark.parametrize("threads", [1, 3])
async def test_steps_are_small_in_texts_and_in_bytes(threads: int) -> None:
    encoder = blocking_encoder()
    embedder = LocalEmbedder(encoder, threads=threads)
    texts = [*TEXTS, *["a " * (BYTES_PER_STEP // 5)] * 5, "b " * BYTES_PER_STEP, *TEXTS]
    texts += ["记" * (BYTES_PER_STEP // 6)] * 4  # two a step
    found = await embedder.embed_documents(texts)
    assert sorted(text for call in encoder.calls for text in call) == sorted(texts)
    for call in encoder.calls:
        assert len(call) <= TEXTS_PER_STEP
        assert len(call) == 1 or sum(len(text.encode()) for text in call) <= BYTES_PER_STEP
    assert len(encoder.calls) <= 2 * math.ceil(len(TEXTS) / TEXTS_PER_STEP) + 5 + 3
    assert list(found) == [encoder.encode([text])[0] for text in texts]
    await embedder.close()


async def test_a_query_does_not_wait_for_documents() -> None:
    encoder = blocking_encoder()
    embedder = LocalEmbedder(encoder, threads=1)
    documents = asyncio.create_task(embedder.embed_documents(["wait", *TEXTS]))
    await reached(encoder)
    async with asyncio.timeout(WAIT_SECONDS):
        await embedder.embed_query("red")
    assert not documents.done()
    encoder.released.set()
    assert len(await documents) == len(TEXTS) + 1
    await embedder.close()


async def test_a_short_call_passes_a_long_one() -> None:
    encoder = blocking_encoder()
    embedder = LocalEmbedder(encoder, threads=1)
    long = asyncio.create_task(embedder.embed_documents(["wait", *TEXTS * 4]))
    await reached(encoder)
    short = asyncio.create_task(embedder.embed_documents(["red"]))
    await asyncio.sleep(0)  # its first step is queued behind the one that waits
    encoder.released.set()
    await short
    assert not long.done()
    await long
    await embedder.close()


async def test_a_cancelled_call_stops_without_affecting_others() -> None:
    encoder = blocking_encoder()
    embedder = LocalEmbedder(encoder, threads=1)
    call = asyncio.create_task(embedder.embed_documents(["wait", *TEXTS]))
    await reached(encoder)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    encoder.released.set()
    found: Sequence[Embedding] = await embedder.embed_documents(["red"])
    assert len(found) == 1
    assert sum(map(len, encoder.calls)) <= TEXTS_PER_STEP + 1
    await embedder.close()


async def test_one_bad_text_raises_its_own_error() -> None:
    embedder = LocalEmbedder(blocking_encoder(), threads=2)
    with pytest.raises(ProviderResponseInvalid, match="broken"):
        await embedder.embed_documents([*TEXTS, "broken"])
    await embedder.close()


async def test_a_closed_embedder_raises_and_closing_twice_is_harmless() -> None:
    embedder = LocalEmbedder(tiny_encoder())
    await embedder.close()
    await embedder.close()
    with pytest.raises(ProviderUnavailable, match="closed"):
        await embedder.embed_documents(["a"])
    with pytest.raises(ProviderUnavailable, match="closed"):
        await embedder.embed_query("a")


async def test_queries_that_wait_go_together_and_fail_alone() -> None:
    encoder = blocking_encoder()
    embedder = LocalEmbedder(encoder)
    first = asyncio.create_task(embedder.embed_query("wait"))
    await reached(encoder)
    waiting = [asyncio.create_task(embedder.embed_query(text)) for text in ("red", "broken", "a")]
    await asyncio.sleep(0)
    encoder.released.set()
    await first
    red, broken, a = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(broken, ProviderResponseInvalid)
    assert encoder.calls[:2] == [["wait"], ["red", "broken", "a"]]
    assert [red, a] == encoder.encode(["red"]) + encoder.encode(["a"])
    await embedder.close()
