"""Vectors computed on this machine: the default when no key is set."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from luma_memory.concurrency.coalesce import Coalescer
from luma_memory.concurrency.cores import usable_cores
from luma_memory.domain.enrichment import Embedding, EmbeddingModel
from luma_memory.domain.errors import ProviderUnavailable
from luma_memory.providers.embedding.encoder import TextEncoder, load_encoder

# A step enters and leaves the interpreter once, and waits for it while the event loop enriches:
# with 8 texts a worker processes 3 to 5 % more blocks than with 4; more texts gain nothing. A chat
# turn takes 3 ms, a full text (a thousand letters, or three hundred signs of three bytes) 25:
# others wait at most 0.1 s.
TEXTS_PER_STEP = 8
BYTES_PER_STEP = 2_400
THREADS_MAX = 8


class LocalEmbedder:
    """`ports.models.Embedder` on a `TextEncoder`.

    Documents share a few threads; a call takes them step by step, so that calls made at the same
    time advance together instead of one after the other. Queries have a thread of their own, which
    takes all that wait at once, and never queue behind documents. The event loop computes nothing.
    """

    def __init__(self, encoder: TextEncoder, *, threads: int | None = None) -> None:
        """threads: for documents; by default one per core of this process, at most 8."""
        self._encoder = encoder
        self._threads = threads or min(usable_cores(), THREADS_MAX)
        self._documents = ThreadPoolExecutor(self._threads, "embed-documents")
        self._queries = ThreadPoolExecutor(1, "embed-query")
        # Those that arrive while the thread works go together: one way in and out for all.
        self._together: Coalescer[str, Embedding] = Coalescer(
            self._embed_queries,
            items_max=TEXTS_PER_STEP,
            size_max=BYTES_PER_STEP,
            size_of=_size_bytes,
        )

    @classmethod
    async def open(
        cls,
        source: str | Path | None = None,
        *,
        cache_dir: Path | None = None,
        threads: int | None = None,
        names_speakers: bool = True,
    ) -> LocalEmbedder:
        """Load a model: None is the pinned one, else a folder, else a name on the hub.

        cache_dir: where built graphs are kept; by default the user's cache folder.
        names_speakers: see `load_encoder`.
        Raises SetupError if the model is not available.
        """
        encoder = await asyncio.to_thread(
            load_encoder, source, cache_dir=cache_dir, names_speakers=names_speakers
        )
        return cls(encoder, threads=threads)

    @property
    def model(self) -> EmbeddingModel:
        return self._encoder.model

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        """See the port. If cancelled, it stops after the current texts (a few, under 0.2 s)."""
        found: list[Embedding | None] = [None] * len(texts)
        size = min(TEXTS_PER_STEP, math.ceil(len(texts) / self._threads))
        steps = iter(_steps(texts, size))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._threads, len(texts))):
                    group.create_task(self._work(texts, steps, found))
        except BaseExceptionGroup as failures:  # callers know the port's errors, not groups
            raise failures.exceptions[0] from None
        return [embedding for embedding in found if embedding is not None]

    async def embed_query(self, text: str) -> Embedding:
        return await self._together.submit(text)

    def tokens(self, text: str) -> int:
        """How many tokens the text has for this model, uncut. About 0.2 ms per hundred words."""
        return self._encoder.tokens(text)

    async def close(self) -> None:
        """Wait for the current texts and stop the threads."""
        await self._together.close()
        for pool in (self._documents, self._queries):
            await asyncio.to_thread(pool.shutdown)

    async def _embed_queries(self, texts: Sequence[str]) -> Sequence[Embedding]:
        return await self._run(self._queries, texts, self._encoder.prompts.query)

    async def _work(
        self, texts: Sequence[str], steps: Iterator[slice], found: list[Embedding | None]
    ) -> None:
        for step in steps:  # shared with the call's other tasks: each step is taken once
            found[step] = await self._run(
                self._documents, texts[step], self._encoder.prompts.passage
            )

    async def _run(
        self, pool: ThreadPoolExecutor, texts: Sequence[str], prompt: str
    ) -> list[Embedding]:
        try:
            work = asyncio.get_running_loop().run_in_executor(
                pool, self._encoder.encode, texts, prompt
            )
        except RuntimeError as error:  # the pool is shut down
            raise ProviderUnavailable("The local embedding model is closed.") from error
        return await work


def _steps(texts: Sequence[str], texts_max: int) -> Sequence[slice]:
    """All texts in order, in steps within the limit; a larger text is a step of its own."""
    steps: list[slice] = []
    first = taken = 0
    for place, text in enumerate(texts):
        size = _size_bytes(text)
        taken += size
        if place > first and (place - first == texts_max or taken > BYTES_PER_STEP):
            steps.append(slice(first, place))
            first, taken = place, size
    return [*steps, slice(first, len(texts))] if texts else []


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
