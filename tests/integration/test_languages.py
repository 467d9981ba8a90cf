"""One index for all languages, through enrichment and search as they run."""

from __future__ import annotations

import pytest
from tests.support.running import Plan, ingest, working

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.scope import Scope
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.postgres.database import Database
from luma_memory.providers.completion.extract.question import LocalQuestionReader
from luma_memory.providers.completion.local import LocalEnricher
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.telemetry.events import JobCompleted
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.sample_blocks import new_block

ADA = Scope("default", "ada")
GERMAN = "Wir haben gestern mit den Kindern drei alte Burgen am Rhein besichtigt."
FRENCH = "Ma grand-mère préparait toujours des confitures avec les cerises du jardin."
RUSSIAN = "Вчера вечером мы с братом читали интересную книгу о дальних путешествиях."
ENGLISH = "The customer number of our electricity contract is KD-88231, said Mr Pfeiffer."


@pytest.fixture
async def recall(database: Database) -> Recall:
    blocks = [new_block(text, user_id="ada") for text in (GERMAN, FRENCH, RUSSIAN, ENGLISH)]
    await ingest(database, *blocks)
    async with working(database, Plan(enricher=LocalEnricher(), embedder=None)) as worker:
        await worker.events.wait_for(JobCompleted, count=len(blocks))
    return Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=None,
        reader=LocalQuestionReader(SystemClock()),
        emit=EventLog(),
    )


QUESTIONS = [
    ("Welche Burg haben wir mit den Kindern am Rhein besichtigt?", GERMAN),
    ("Burg", GERMAN),
    ("confiture cerise", FRENCH),
    ("книга", RUSSIAN),
    ("о каком путешествии мы читали вчера", RUSSIAN),
    ("KD-88231", ENGLISH),
    ("Wie lautet die Kundennummer KD-88231 im Vertrag?", ENGLISH),
    ("Pfeiffer", ENGLISH),
    ("Qu'est-ce que Pfeiffer a dit du contrat ?", ENGLISH),
    ("castles at the Rhein", GERMAN),
]


async def test_the_matching_text_comes_first_and_nothing_else_is_found(recall: Recall) -> None:
    for query, text in QUESTIONS:
        result = await recall.search(SearchRequest(scope=ADA, query=query, limit=4))
        assert result.hits[0].block.content == text, query
        assert list(result.degraded) == []
    assert not (await recall.search(SearchRequest(scope=ADA, query="Fahrräder", limit=4))).hits
