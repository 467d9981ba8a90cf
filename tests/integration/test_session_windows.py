"""Sessions get their windows in the background, whatever order their turns come in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import Plan, ingest, working

from luma_memory.domain.block import BlockToEnrich, NewBlock
from luma_memory.domain.block_selection import BlockSelection
from luma_memory.domain.clock import SystemClock
from luma_memory.domain.job import Job, NewJob
from luma_memory.domain.scope import Scope
from luma_memory.domain.windows import SESSION_START
from luma_memory.pipeline.enrichment.session_windows import DELAY, SessionWindows
from luma_memory.pipeline.enrichment.windows import plan_windows
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.request import SearchRequest
from luma_memory.postgres.database import Database
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.queue.producer import PostgresJobProducer
from luma_memory.store.block_selections import PostgresBlockSelections
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.store.search import PostgresSearchStore
from luma_memory.store.windows import PostgresWindowStore
from luma_memory.telemetry.events import JobCancelled, JobCompleted
from luma_memory.testing.event_log import EventLog
from luma_memory.testing.models import WordEmbedder
from luma_memory.testing.sample_blocks import OCCURRED_AT, new_block

pytestmark = every_postgres

CAROLINE = Scope("default", "caroline")
WINDOWS = """
SELECT b.content, m.stop_at AS fingerprint, m.embedding_model, m.session_id
FROM memory_passages AS m JOIN memory_blocks AS b ON b.id = m.block_id
WHERE m.ordinal = -1 ORDER BY b.occurred_at, b.id
"""


class SoonClock(SystemClock):
    """A clock that is behind by the jobs' delay: they are due at once."""

    def now(self) -> datetime:
        return super().now() - DELAY


def turn(number: int, **fields: Any) -> NewBlock:
    at = OCCURRED_AT + timedelta(minutes=number)
    usual: dict[str, Any] = {"session_id": "s1", "speaker": "Ada", "occurred_at": at}
    return new_block(f"turn {number}", **usual | fields)


def _windows(database: Database, embedder: WordEmbedder | None) -> SessionWindows:
    return SessionWindows(
        PostgresWindowStore(database),
        PostgresJobProducer(database, attempts_max=3),
        embedder=embedder,
        clock=SoonClock(),
    )


def _plan(database: Database, embedder: WordEmbedder | None) -> Plan:
    return Plan(enricher=None, embedder=embedder, windows=_windows(database, embedder))


async def _drain(
    database: Database, connection: asyncpg.Connection, embedder: WordEmbedder | None = None
) -> None:
    """Run everything there is to run, jobs made meanwhile included."""
    windows = _windows(database, embedder or WordEmbedder())
    queue = PostgresJobQueue(database)
    while True:
        jobs: Sequence[Job] = await queue.claim(
            "w1", limit=100, lease=timedelta(minutes=1), job_types=["reembed"], rescue=False
        )
        if not jobs:
            return
        for job in jobs:
            await windows(job)
        await queue.complete("w1", jobs)


async def _read(database: Database, session_id: str | None = None) -> Sequence[BlockToEnrich]:
    """The newest blocks, of a session or all, as a worker reads them."""
    store = PostgresBlockStore(database, attempts_max=3)
    selection = BlockSelection(
        project_id=CAROLINE.project_id, user_id=CAROLINE.user_id, session_id=session_id
    )
    page = await PostgresBlockSelections(database).page(selection, before=None, limit=200)
    blocks = await store.read_to_enrich([(block.scope, block.id) for block in page.blocks])
    return [block for block in blocks if block is not None]


async def _note(database: Database, *numbers: int) -> None:
    """What a worker does with each block before its write-back."""
    by_content = {block.content: block for block in await _read(database, "s1")}
    windows = _windows(database, WordEmbedder())
    for number in numbers:
        await windows.enqueue([by_content[f"turn {number}"]])


async def _ends(connection: asyncpg.Connection) -> list[str]:
    return [row["content"] for row in await connection.fetch(WINDOWS)]


async def test_a_worker_makes_them_and_search_ranks_by_them(
    database: Database, connection: asyncpg.Connection
) -> None:
    texts = ["We got married in", "Lisbon harbour", "it rained", "unrelated words", "more of them"]
    blocks = [new_block(text, session_id="s1", speaker="Ada") for text in texts]
    await ingest(database, *blocks, new_block("alone"))
    embedder = WordEmbedder()
    async with working(database, _plan(database, embedder)) as worker:
        await worker.events.wait_for(JobCompleted, count=7)
        assert not worker.bugs
    assert await _ends(connection) == ["Lisbon harbour", "unrelated words"]
    recall = Recall(
        PostgresSearchStore(database),
        PostgresBlockStore(database, attempts_max=3),
        embedder=embedder,
        emit=EventLog(),
    )
    result = await recall.search(
        SearchRequest(scope=CAROLINE, query="married harbour", limit=6, explain=True)
    )
    assert len(result.hits) == 6
    context = {hit.block.content: hit.explanation["context_standing"] for hit in result.hits}
    assert float(context["We got married in"] or 0) > float(context["unrelated words"] or 0)


async def test_the_version_rises_when_the_ranking_can_change(
    database: Database, connection: asyncpg.Connection
) -> None:
    version = "SELECT version FROM memory_users WHERE user_id = 'caroline'"
    await ingest(database, *map(turn, range(3)))
    before = await connection.fetchval(version)
    await _note(database, 0)
    await _drain(database, connection)
    made = await connection.fetchval(version)
    assert made > before
    await _note(database, 0)
    await _drain(database, connection)
    assert await connection.fetchval(version) == made  # nothing was left to do


async def test_a_late_turn_makes_the_windows_around_it_again_and_no_others(
    database: Database, connection: asyncpg.Connection
) -> None:
    numbers = [0, 1, 2, 3, *range(10, 24)]
    await ingest(database, *map(turn, numbers))
    await _note(database, 0)
    await _drain(database, connection)
    before = {row["content"]: row["fingerprint"] for row in await connection.fetch(WINDOWS)}
    await ingest(database, turn(5))
    await _note(database, 5)
    await _drain(database, connection)
    after = {row["content"]: row["fingerprint"] for row in await connection.fetch(WINDOWS)}
    assert before != after
    kept = {content for content in before if after.get(content) == before[content]}
    assert {f"turn {n}" for n in (1, 3, 13, 15, 17, 19, 21, 23)} <= kept
    assert len(set(before.items()) ^ set(after.items())) <= 4


async def test_what_is_deleted_is_in_no_vector_any_more_and_the_rest_is_made_again(
    database: Database, connection: asyncpg.Connection
) -> None:
    accepted = await ingest(database, *map(turn, range(8)))
    await _note(database, 0)
    await _drain(database, connection)
    assert await _ends(connection) == ["turn 1", "turn 3", "turn 5", "turn 7"]
    reason = await connection.fetchval(
        "SELECT delete_memory_block('default', 'caroline', $1, 1)", accepted[2].id
    )
    assert reason == "deleted"
    # The window that ended with turn 3 held turn 2: it is gone with it, in the same statement.
    assert await _ends(connection) == ["turn 1", "turn 5", "turn 7"]
    await connection.execute("UPDATE memory_jobs SET run_at = now() WHERE job_type = 'reembed'")
    await _drain(database, connection)
    turns = await PostgresWindowStore(database).turns(
        CAROLINE, "s1", SESSION_START, limit=200, before=4, text=400
    )
    plan = plan_windows(turns, embedding_model="words-64")
    assert (plan.windows, plan.dropped) == ([], [])  # all that is left is as it should be


async def test_an_edit_makes_the_windows_around_it_again(
    database: Database, connection: asyncpg.Connection
) -> None:
    accepted = await ingest(database, *map(turn, range(6)))
    await _note(database, 0)
    await _drain(database, connection)
    first = {row["content"]: row["fingerprint"] for row in await connection.fetch(WINDOWS)}
    await connection.execute("UPDATE memory_blocks SET revision = 2 WHERE id = $1", accepted[2].id)
    await _note(database, 2)
    await _drain(database, connection)
    then = {row["content"]: row["fingerprint"] for row in await connection.fetch(WINDOWS)}
    assert list(first) == list(then) == ["turn 1", "turn 3", "turn 5"]
    changed = {content for content in first if first[content] != then[content]}
    assert changed == {"turn 3"}


async def test_a_block_that_went_meanwhile_gets_none(
    database: Database, connection: asyncpg.Connection
) -> None:
    accepted = await ingest(database, *map(turn, range(2)))

    async def delete(_texts: Sequence[str]) -> None:
        await connection.execute("DELETE FROM memory_blocks WHERE id = $1", accepted[1].id)
        await connection.execute("DELETE FROM memory_passages WHERE block_id = $1", accepted[1].id)

    await _note(database, 0)
    await _drain(database, connection, WordEmbedder(before=delete))
    assert await connection.fetchval("SELECT count(*) FROM memory_passages WHERE ordinal = -1") == 0


async def test_a_burst_costs_one_job_and_a_long_session_several(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, *map(turn, range(450)))
    windows = SessionWindows(
        PostgresWindowStore(database),
        PostgresJobProducer(database, attempts_max=3),
        embedder=WordEmbedder(),
        clock=SystemClock(),
    )
    for block in sorted(await _read(database, "s1"), key=lambda block: block.occurred_at):
        await windows.enqueue([block])
    count = "SELECT count(*) FROM memory_jobs WHERE job_type = 'reembed'"
    assert await connection.fetchval(count) == 1
    assert await connection.fetchval(f"{count} AND run_at > now() AND priority < 0") == 1
    await connection.execute("DELETE FROM memory_jobs WHERE job_type = 'reembed'")
    await _note(database, 449)  # a block far back in time is noted, too: here the last one
    await connection.execute(
        """UPDATE memory_jobs SET payload = payload || '{"from": ["0001-01-01T00:00:00+00:00",
           "00000000-0000-0000-0000-000000000000"]}' WHERE job_type = 'reembed'"""
    )
    await _drain(database, connection)
    assert len(await _ends(connection)) == 225
    assert await connection.fetchval(count) == 3


async def test_all_sessions_of_a_scope_are_found_page_by_page(
    database: Database, connection: asyncpg.Connection
) -> None:
    blocks = [turn(n, session_id=f"s{n // 2:03}") for n in range(2 * 130)]
    await ingest(database, *blocks, turn(0, session_id=None), turn(0, user_id="melanie"))
    await connection.execute("UPDATE memory_passages SET speaker_key = NULL")
    await connection.execute(
        """INSERT INTO memory_jobs (user_id, job_type, payload)
           VALUES ('caroline', 'reembed', '{"sessions": "all"}')"""
    )
    await _drain(database, connection)
    assert len(await _ends(connection)) == 130
    # What is older than the speaker's key has got it by the way.
    keyless = await connection.fetchval(
        """SELECT count(*) FROM memory_passages WHERE user_id = 'caroline'
           AND session_id IS NOT NULL AND ordinal = 0 AND speaker_key IS NULL"""
    )
    assert keyless == 0


async def test_switched_off_nothing_is_noted_and_jobs_are_cancelled(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, *map(turn, range(3)))
    await connection.execute(
        """INSERT INTO memory_jobs (user_id, job_type, payload)
           VALUES ('caroline', 'reembed', '{"sessions": "all"}')"""
    )
    async with working(database, _plan(database, None)) as worker:
        await worker.events.wait_for(JobCancelled)
        await worker.events.wait_for(JobCompleted, count=3)
    assert await _ends(connection) == []


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"session_id": "s1"},
        {"session_id": "s1", "from": ["yesterday", "x"]},
        {"session_id": 7, "from": []},
        {"sessions": "some"},
    ],
)
async def test_a_job_of_another_kind_is_cancelled(
    payload: dict[str, Any], database: Database, connection: asyncpg.Connection
) -> None:
    job = Job(1, CAROLINE, "reembed", None, 1, 3, payload)
    outcome = await _windows(database, WordEmbedder())(job)
    assert type(outcome).__name__ == "Cancel"


async def test_another_model_makes_them_again(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, *map(turn, range(4)))
    for model in ("words-64", "words-32"):
        await _note(database, 0)
        await _drain(database, connection, WordEmbedder(model_id=model))
        rows = await connection.fetch(WINDOWS)
        assert {row["embedding_model"] for row in rows} == {model}
        assert len(rows) == 2


async def test_the_turns_of_many_sessions_share_a_statement(database: Database) -> None:
    sessions = [f"s{number}" for number in range(20)]
    await ingest(
        database, *(turn(number, session_id=name) for name in sessions for number in (1, 2))
    )
    producer = _Counted(PostgresJobProducer(database, attempts_max=3))
    windows = SessionWindows(
        PostgresWindowStore(database), producer, embedder=WordEmbedder(), clock=SoonClock()
    )
    await windows.enqueue(await _read(database))
    assert producer.calls == [20]


class _Counted:
    """A producer that counts: jobs, each call."""

    def __init__(self, inner: PostgresJobProducer) -> None:
        self._inner = inner
        self.calls: list[int] = []

    async def enqueue(self, jobs: Sequence[NewJob]) -> Sequence[int]:
        self.calls.append(len(jobs))
        return await self._inner.enqueue(jobs)
