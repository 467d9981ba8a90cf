"""Enrichment without a model provider: by rules and word lists from the text itself."""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import Final, Literal

from luma_memory.domain.enrichment import Enrichment, EnrichmentRequest
from luma_memory.providers.completion.extract import extract
from luma_memory.providers.completion.extract.language import warm_up

NAME: Final = "local-extractive/1"
# A chat turn takes a third of a millisecond, less than a thread switch costs; a page
# takes several, which other coroutines of the loop should not wait for.
INLINE_CHARS = 800


class LocalEnricher:
    """Implements `ports.models.Enricher`. Stateless: word lists and models are loaded once per
    process.
    """

    def __init__(self) -> None:
        self._warm = False

    @property
    def kind(self) -> Literal["local"]:
        return "local"

    @property
    def name(self) -> str:
        return NAME

    async def enrich(self, request: EnrichmentRequest) -> Enrichment:
        """Derived facts of one block. Never raises for any text; safe to cancel."""
        await self._warmed()
        if len(request.content) <= INLINE_CHARS:
            return extract(request, model=NAME)
        return await asyncio.to_thread(extract, request, model=NAME)

    def warm(self) -> None:
        """Load the language model in the background: a worker whose provider fails has other work
        at that moment, and would grow by 70 MB.
        """
        Thread(target=warm_up, name="warm-fallback", daemon=True).start()

    async def close(self) -> None:
        """No resources to free."""

    async def _warmed(self) -> None:
        """The first call loads the language model, a second of work, in a thread."""
        if not self._warm:
            await asyncio.to_thread(warm_up)
            self._warm = True
