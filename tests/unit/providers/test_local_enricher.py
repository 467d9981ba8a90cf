"""The port's face of the extractors."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from luma_memory.domain.enrichment import Enrichment, EnrichmentRequest
from luma_memory.ports.models import Enricher
from luma_memory.providers.completion import local
from luma_memory.providers.completion.extract import extract

WHEN = datetime(2023, 5, 8, tzinfo=UTC)


async def test_it_is_an_enricher() -> None:
    enricher: Enricher = local.LocalEnricher()
    assert (enricher.kind, enricher.name) == ("local", "local-extractive/1")
    request = EnrichmentRequest("I adopted a greyhound yesterday.", WHEN)
    result = await enricher.enrich(request)
    assert result == extract(request, model=enricher.name)
    assert result.model == enricher.name
    await enricher.close()
    await enricher.close()


@pytest.mark.parametrize(("length", "inline"), [(100, True), (local.INLINE_CHARS + 1, False)])
async def test_a_long_text_leaves_the_event_loop_free(
    monkeypatch: pytest.MonkeyPatch, length: int, inline: bool
) -> None:
    threads: list[int] = []

    def recording(request: EnrichmentRequest, *, model: str) -> Enrichment:
        threads.append(threading.get_ident())
        return extract(request, model=model)

    monkeypatch.setattr(local, "extract", recording)
    await local.LocalEnricher().enrich(EnrichmentRequest("a " * (length // 2 + 1), WHEN))
    assert (threads == [threading.get_ident()]) is inline


async def test_the_model_is_loaded_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(local, "warm_up", lambda: threads.append(threading.get_ident()))
    enricher = local.LocalEnricher()
    await enricher.enrich(EnrichmentRequest("Hello", WHEN))
    await enricher.enrich(EnrichmentRequest("Hello", WHEN))
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
