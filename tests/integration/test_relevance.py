"""What is relevant, on a real database and with the real model: nothing stored is an answer."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.support.running import Plan, ingest, working

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.enrichment import Embedding, EmbeddingModel
from luma_memory.domain.errors import ProviderUnavailable
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import SearchResult
from luma_memory.pipeline.recall.calibration import QUESTIONS, Calibrations, measure_calibration
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.ports.models import Embedder, QuestionReader
from luma_memory.postgres.database import Database
from luma_memory.providers.completion.extract.question import LocalQuestionReader
from luma_memory.providers.embedding.local import LocalEmbedder
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.vector_models import PostgresVectorModels
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import new_block

ADA = Scope("default", "ada")
STORED = (
    "We moved to Lisbon in March, the flat has a view of the river.",
    "My sister Clara is allergic to peanuts.",
    "The spare key lies under the blue flower pot, ticket XK-4417-B is for the locker.",
    "I started to learn the violin, my teacher is Mr Bauer.",
    "The car failed its inspection because of the brakes.",
)
ANSWERABLE = (
    "What view does the flat have?",
    "What food must Clara avoid?",
    "where is the spare key",
    "Which instrument am I learning?",
    "XK-4417-B",
)
UNANSWERED = (
    "How do I configure a Kubernetes ingress?",
    "What was the score of the basketball final?",
    "Who wrote the report on quarterly revenue?",
    "Which vaccine did the dog get?",
)
# Notes and questions about other things, which have the same letters: the model reads only English.
FOREIGN = {
    "es": (
        (
            "Mi hermana Clara es alérgica a los cacahuetes.",
            "La llave de repuesto está debajo de la maceta azul.",
            "El coche no pasó la inspección por los frenos.",
        ),
        (
            "¿Cuál es la contraseña del banco?",
            "¿Quién ganó el torneo de ajedrez?",
            "¿De qué color es el sofá nuevo?",
            "¿Qué montaña subimos?",
        ),
        "¿Dónde está la llave de repuesto?",
    ),
    "tr": (
        (
            "Kız kardeşim Ceren'in fıstığa alerjisi var.",
            "Yedek anahtar mavi saksının altında duruyor.",
            "Araba frenleri yüzünden muayeneden geçmedi.",
        ),
        (
            "Banka şifresi ne?",
            "Satranç turnuvasını kim kazandı?",
            "Yeni kanepe ne renk?",
            "Hangi dağa tırmandık?",
        ),
        "Yedek anahtar nerede duruyor?",
    ),
}
# How much of a text's direction is the same for all texts, in models of this kind.
COMMON_SHARE = 0.7


class NarrowEmbedder:
    """Another model: all texts lean to one side, so that unrelated ones have a cosine of 0.7."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        own = inner.model
        self.model = EmbeddingModel("narrow", own.dimension + 1, own.max_tokens)

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Embedding]:
        return [_leaning(embedding) for embedding in await self._inner.embed_documents(texts)]

    async def embed_query(self, text: str) -> Embedding:
        return _leaning(await self._inner.embed_query(text))

    async def close(self) -> None:
        return


def _leaning(embedding: Embedding) -> Embedding:
    own = math.sqrt(1 - COMMON_SHARE)
    values = [math.sqrt(COMMON_SHARE), *(own * value for value in embedding.vector)]
    return Embedding(array("f", values), embedding.token_count)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def minilm() -> AsyncIterator[LocalEmbedder]:
    opened = await LocalEmbedder.open()
    yield opened
    await opened.close()


async def _stored(
    database: Database,
    embedder: Embedder,
    *,
    scope: Scope = ADA,
    contents: Sequence[str] = STORED,
    reader: QuestionReader | None = None,
) -> Recall:
    models = PostgresVectorModels(database)
    await models.register(embedder.model.id)
    blocks = [replace(new_block(content), scope=scope) for content in contents]
    await ingest(database, *blocks)
    async with working(database, Plan(embedder=embedder, concurrent_jobs_max=10)) as running:
        await running.events.wait_for(JobCompleted, count=len(contents))
    return Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=embedder,
        reader=reader,
        emit=EventLog(),
        calibrations=Calibrations(models),
    )


async def _ask(
    recall: Recall, query: str, *, scope: Scope = ADA, relevant_only: bool = False
) -> SearchResult:
    return await recall.search(
        SearchRequest(scope=scope, query=query, limit=3, relevant_only=relevant_only)
    )


@pytest.mark.parametrize("kind", ["as it is", "narrow"])
async def test_what_was_never_stored_is_not_relevant_whatever_the_model(
    kind: str, database: Database, minilm: LocalEmbedder
) -> None:
    embedder: Embedder = minilm if kind == "as it is" else NarrowEmbedder(minilm)
    recall = await _stored(database, embedder)
    for query in ANSWERABLE:
        result = await _ask(recall, query, relevant_only=True)
        assert result.is_relevant, query
    for query in UNANSWERED:
        result = await _ask(recall, query)
        assert (len(result.hits), result.is_relevant) == (3, False), query
        nothing = await _ask(recall, query, relevant_only=True)
        assert (list(nothing.hits), nothing.is_relevant) == ([], False)


@pytest.mark.parametrize("language", sorted(FOREIGN))
async def test_an_english_model_is_not_sure_of_other_languages(
    language: str, database: Database, minilm: LocalEmbedder
) -> None:
    """The letters alone made nearly every block relevant to every question."""
    notes, unanswered, answerable = FOREIGN[language]
    reader = LocalQuestionReader(SystemClock())
    recall = await _stored(database, minilm, contents=notes, reader=reader)
    for query in unanswered:
        assert not (await _ask(recall, query)).is_relevant, query
    assert (await _ask(recall, answerable)).is_relevant


async def test_both_models_say_the_same(database: Database, minilm: LocalEmbedder) -> None:
    eve = Scope("default", "eve")
    one = await _stored(database, minilm)
    other = await _stored(database, NarrowEmbedder(minilm), scope=eve)
    for query in (*ANSWERABLE, *UNANSWERED):
        found, again = await _ask(one, query), await _ask(other, query, scope=eve)
        relevances = {hit.block.content: hit.relevance for hit in found.hits}
        other_relevances = {hit.block.content: hit.relevance for hit in again.hits}
        assert {*relevances} & {*other_relevances}
        for content in {*relevances} & {*other_relevances}:
            assert relevances[content] == pytest.approx(other_relevances[content], abs=0.02), query


async def test_words_alone_say_it_too(database: Database) -> None:
    """With the provider away, and for a block that no worker has seen."""
    await ingest(database, *[replace(new_block(content), scope=ADA) for content in STORED])
    recall = Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=None,
        emit=EventLog(),
    )
    assert (await _ask(recall, "where is the spare key")).is_relevant
    assert (await _ask(recall, "XK-4417-B")).is_relevant
    assert not (await _ask(recall, "the dog and the river of Lisbon's vaccine story")).is_relevant


async def test_a_calibration_is_measured_once_for_concurrent_callers(database: Database) -> None:
    questions: list[str] = []

    async def count(texts: Sequence[str]) -> None:
        questions.extend(text for text in texts if text in QUESTIONS)

    embedder = WordEmbedder(before=count)
    models = PostgresVectorModels(database)
    await models.register(embedder.model.id)
    backgrounds = Calibrations(models)
    first, second = await asyncio.gather(backgrounds.of(embedder), backgrounds.of(embedder))
    again = await Calibrations(models).of(embedder)
    assert first == second == again == await measure_calibration(WordEmbedder())
    assert len(questions) == len(QUESTIONS)


async def test_a_failed_measurement_is_reported_and_retried(database: Database) -> None:
    fails = True

    async def fail(texts: Sequence[str]) -> None:
        if fails and set(texts) & set(QUESTIONS):
            raise ProviderUnavailable("away")

    embedder = WordEmbedder(before=fail)
    recall = await _stored(database, embedder)
    assert list((await _ask(recall, "the spare key")).degraded) == ["calibration"]
    fails = False
    assert list((await _ask(recall, "the spare key")).degraded) == []
