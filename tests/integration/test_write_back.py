"""What a worker made of a block goes in whole, once, and only where it still belongs."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import LEASE, ingest, job_row, read

from luma_memory.domain.block import Accepted, NewBlock, PassagePlace, PassageText
from luma_memory.domain.enrichment import Enrichment, Entity, Vector
from luma_memory.domain.job import Job
from luma_memory.pipeline.text.terms import TermVector
from luma_memory.ports.blocks import EnrichedBlock, EnrichedPassage
from luma_memory.postgres.database import Database
from luma_memory.postgres.sql_files import SqlFile
from luma_memory.queue.jobs import PostgresJobQueue
from luma_memory.store.blocks import PostgresBlockStore
from luma_memory.testing.sample_blocks import ingest_item, new_block

pytestmark = every_postgres

MODEL = "words-4"
ENRICHMENT = Enrichment(
    title="A grey cat",
    summary="Caroline adopted a cat.",
    tags=["cat", 'quo"te', "comma, {brace}", "ünï"],
    entities=[Entity("Caroline", "person"), Entity("yesterday", "date", "2023-05-07")],
    importance=0.25,
    language="en",
    model="quoting-1",
)


async def _claim(database: Database, worker_id: str = "w1", limit: int = 100) -> Sequence[Job]:
    jobs = await PostgresJobQueue(database).claim(
        worker_id, limit=limit, lease=LEASE, job_types=["enrich_and_embed"], rescue=False
    )
    return sorted(jobs, key=lambda job: job.id)


async def _again(connection: asyncpg.Connection, database: Database, accepted: Accepted) -> Job:
    """A second job for a block that has been enriched, claimed."""
    await connection.execute(
        "UPDATE memory_jobs SET status = 'pending', attempts = 0 WHERE id = $1", accepted.job_id
    )
    (job,) = await _claim(database)
    return job


def _vector(*values: float) -> Vector:
    return array("f", values)


def _result(
    job: Job,
    block: NewBlock,
    *,
    revision: int = 1,
    enrichment: Enrichment | None = ENRICHMENT,
    vector: Vector | None = None,
) -> EnrichedBlock:
    passages = ingest_item(block).passages
    return EnrichedBlock(
        job=job,
        revision=revision,
        enrichment=enrichment,
        kind="model" if enrichment else None,
        passages=[EnrichedPassage(passage, vector) for passage in passages],
        embedding_model=MODEL if vector is not None else None,
    )


def _keeping_words(result: EnrichedBlock) -> EnrichedBlock:
    places = [
        replace(p, text=PassagePlace(p.text.ordinal, p.text.start, p.text.stop))
        for p in result.passages
    ]
    return replace(result, passages=places)


async def _write(database: Database, *results: EnrichedBlock, worker_id: str = "w1") -> list[bool]:
    store = PostgresBlockStore(database, attempts_max=3)
    return list(await store.write_back(worker_id, results))


async def _vectors(connection: asyncpg.Connection, block_id: UUID) -> list[tuple[str | None, ...]]:
    rows = await connection.fetch(
        "SELECT embedding_model, embedding::text FROM memory_passages WHERE block_id = $1"
        " ORDER BY ordinal",
        block_id,
    )
    return [tuple(row) for row in rows]


async def _version(connection: asyncpg.Connection) -> int:
    version: int = await connection.fetchval("SELECT version FROM memory_users")
    return version


async def test_results_vectors_and_the_jobs_end_are_stored(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block(speaker="Caroline")
    (accepted,) = await ingest(database, block)
    before = await _version(connection)
    (job,) = await _claim(database)
    assert await _write(database, _result(job, block, vector=_vector(0.5, -0.5, 0.5, 0.5))) == [
        True
    ]
    stored = await read(database, block, accepted.id)
    assert (stored.status, stored.enrichment, stored.error) == ("active", "model", None)
    assert (stored.title, stored.summary, stored.language) == (
        "A grey cat",
        ENRICHMENT.summary,
        "en",
    )
    assert (list(stored.tags), list(stored.entities)) == (ENRICHMENT.tags, ENRICHMENT.entities)
    assert stored.importance == 0.25
    assert await _vectors(connection, accepted.id) == [(MODEL, "[0.5,-0.5,0.5,0.5]")]
    row = await job_row(connection, accepted.job_id)
    assert (row["status"], row["attempts"], row["locked_until"]) == ("completed", 1, None)
    assert row["finished_at"] is not None
    assert await _version(connection) > before
    assert await connection.fetchval("SELECT count(*) FROM memory_block_revisions") == 0


async def test_vectors_come_back_as_they_went_in(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (job,) = await _claim(database)
    values = np.random.default_rng(7).normal(size=384).astype(np.float32)
    values /= np.linalg.norm(values)
    await _write(database, _result(job, block, vector=array("f", values.tolist())))
    ((_, text),) = await _vectors(connection, accepted.id)
    assert text is not None
    stored = np.array([float(value) for value in text.strip("[]").split(",")])
    np.testing.assert_allclose(stored, values, atol=1e-3)


async def test_words_that_are_stored_stay(
    database: Database, connection: asyncpg.Connection
) -> None:
    """A worker leaves search terms as they are if it would compute the same as the API did."""
    blocks = [new_block("The API made these."), new_block("The worker makes these.")]
    accepted = await ingest(database, *blocks)
    statement = "SELECT to_jsonb(p) FROM memory_passages AS p WHERE block_id = $1"
    before = [
        json.loads(await connection.fetchval(statement, response.id)) for response in accepted
    ]
    results = []
    for job, block, lexemes in zip(
        await _claim(database),
        blocks,
        [None, TermVector([7], [0.5]).to_binary()],
        strict=True,
    ):
        result = _result(job, block, vector=_vector(1, 0, 0, 0))
        (passage,) = result.passages
        place = passage.text.ordinal, passage.text.start, passage.text.stop
        text = PassagePlace(*place) if lexemes is None else PassageText(*place, lexemes=lexemes)
        results.append(replace(result, passages=[replace(passage, text=text)]))
    assert await _write(database, *results) == [True, True]
    after = [json.loads(await connection.fetchval(statement, response.id)) for response in accepted]
    vectors = {"embedding": "[1,0,0,0]", "embedding_model": MODEL}
    words = {"lexemes": TermVector([7], [0.5]).to_text()}
    assert after == [before[0] | vectors, before[1] | vectors | words]


async def test_an_older_versions_function_stands_beside_this_ones(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Migrating by an older version, as a rollback does, makes its functions again."""
    definition = files("luma_memory.migrations") / "definitions" / "enrichment.sql"
    text = definition.read_text(encoding="utf-8").partition("-- As versions before 0012")[0]
    for piece, without in (
        (", p_kept boolean[]", ""),
        (", p_kept[i.n] AS kept", ""),
        ("(b.language IS NULL OR d.kept IS NOT TRUE)", "true"),
        ("(b.language IS NULL OR p_kept[d.n] IS NOT TRUE)", "true"),
    ):
        assert piece in text
        text = text.replace(piece, without)
    await connection.execute(text)
    count = "SELECT count(*) FROM pg_proc WHERE proname = 'complete_memory_enrichments'"
    assert await connection.fetchval(count) == 2
    blocks = [new_block("New."), new_block("Old.")]
    accepted = await ingest(database, *blocks)
    new_job, old_job = await _claim(database)
    made = _result(new_job, blocks[0], vector=_vector(1, 0, 0, 0))
    assert await _write(database, _keeping_words(made)) == [True]
    call = SqlFile("luma_memory.store.blocks")["write_back"].replace(", $18", "")
    result = _result(old_job, blocks[1], vector=_vector(0, 1, 0, 0))
    store = PostgresBlockStore(_Older(database, call), attempts_max=3)  # type: ignore[arg-type]
    assert await store.write_back("w1", [result]) == [True]
    assert await _vectors(connection, accepted[0].id) == [(MODEL, "[1,0,0,0]")]
    assert await _vectors(connection, accepted[1].id) == [(MODEL, "[0,1,0,0]")]


class _Older:
    """A database as a version before calls it: with 17 arguments."""

    def __init__(self, database: Database, call: str) -> None:
        self._database = database
        self._call = call

    async def fetch(self, _statement: str, *values: object) -> Sequence[asyncpg.Record]:
        return await self._database.fetch(self._call, *values[:17])


async def test_words_that_another_job_has_remade_go_with_its_result(
    database: Database, connection: asyncpg.Connection
) -> None:
    """An edit beside a job that is being claimed makes a second one; both read one revision."""
    block = new_block("Das Haus am See.")
    (accepted,) = await ingest(database, block)
    (first,) = await _claim(database)
    second_id = await connection.fetchval(
        "INSERT INTO memory_jobs (user_id, project_id, block_id, job_type, fair_at)"
        " SELECT user_id, project_id, block_id, job_type, now() FROM memory_jobs RETURNING id"
    )
    (second,) = await _claim(database)
    assert second.id == second_id
    made = _result(second, block, vector=_vector(0, 1, 0, 0))
    german = replace(ENRICHMENT, language="de")
    result = _result(first, block, enrichment=german, vector=_vector(1, 0, 0, 0))
    assert await _write(database, result) == [True]
    assert await _write(database, _keeping_words(made)) == [True]
    assert (await read(database, block, accepted.id)).language == "de"
    assert await _vectors(connection, accepted.id) == [(MODEL, "[1,0,0,0]")]
    assert (await job_row(connection, second_id))["status"] == "completed"
    assert await connection.fetchval("SELECT count(*) FROM memory_block_revisions") == 0


async def test_without_a_vector_stored_words_and_vectors_stay(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (job,) = await _claim(database)
    await _write(database, _result(job, block, vector=_vector(1, 0, 0, 0)))
    again = await _again(connection, database, accepted)
    result = _result(again, block, enrichment=None)
    assert await _write(database, _keeping_words(result)) == [True]
    assert await _vectors(connection, accepted.id) == [(MODEL, "[1,0,0,0]")]


@pytest.mark.parametrize(
    ("change", "is_indexed"),
    [
        (None, True),
        ("UPDATE memory_blocks SET language = 'de'", False),
        ("UPDATE memory_blocks SET language = 'en'", False),  # its words may be another's by now
        ("DELETE FROM memory_passages", False),
        ("UPDATE memory_passages SET ordinal = -1", False),  # a window of turns
        ("UPDATE memory_passages SET stop_at = stop_at - 1", False),
        ("UPDATE memory_blocks SET content = content || 'x'", False),
    ],
)
async def test_a_job_knows_which_words_are_stored(
    change: str | None, is_indexed: bool, database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block("A 🎈 for Zoë.", speaker="Ada", session_id="s")
    (accepted,) = await ingest(database, block)
    if change is not None:
        await connection.execute(change)
    store = PostgresBlockStore(database, attempts_max=3)
    (read_whole,) = await store.read([(block.scope, accepted.id)])
    (found, missing, foreign) = await store.read_to_enrich(
        [
            (block.scope, accepted.id),
            (block.scope, UUID(int=1)),
            (replace(block.scope, user_id="somebody else"), accepted.id),
        ]
    )
    assert (missing, foreign) == (None, None)
    assert found is not None
    assert found.is_indexed == is_indexed
    other = {"is_indexed", "is_item"}
    own = {name: value for name, value in found._asdict().items() if name not in other}
    assert own == {name: getattr(read_whole, name) for name in own}


async def test_a_late_worker_changes_nothing(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (late,) = await _claim(database)
    await PostgresJobQueue(database).release("w1", [late])
    (elsewhere,) = await _claim(database, "w2")
    version = await _version(connection)
    # The same number of the attempt, another worker; then another number.
    assert await _write(database, _result(late, block)) == [False]
    wrong = elsewhere._replace(attempt=elsewhere.attempt + 1)
    assert await _write(database, _result(wrong, block), worker_id="w2") == [False]
    assert (await read(database, block, accepted.id)).status == "pending_enrichment"
    assert await _version(connection) == version
    assert await _write(database, _result(elsewhere, block), worker_id="w2") == [True]
    assert await _write(database, _result(elsewhere, block), worker_id="w2") == [False]


async def test_of_two_attempts_in_one_hand_only_the_later_counts(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (late,) = await _claim(database)
    await connection.execute("UPDATE memory_jobs SET locked_until = now() - interval '1 s'")
    assert await connection.fetchval("SELECT rescue_memory_jobs('w1')") == 1
    (current,) = await _claim(database)
    results = [
        _result(job, block, enrichment=replace(ENRICHMENT, title=f"attempt {job.attempt}"))
        for job in (late, current, late)
    ]
    assert await _write(database, *results) == [False, True, False]
    assert (await read(database, block, accepted.id)).title == "attempt 2"


async def test_an_edited_block_is_not_overwritten(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (job,) = await _claim(database)
    await connection.execute(
        "UPDATE memory_blocks SET content = 'edited', title = 'mine', revision = 2"
    )
    assert await _write(database, _result(job, block, vector=_vector(1, 0, 0, 0))) == [True]
    stored = await read(database, block, accepted.id)
    assert (stored.content, stored.title, stored.enrichment) == ("edited", "mine", "none")
    assert await _vectors(connection, accepted.id) == [(None, None)]


async def test_another_enrichment_keeps_the_results_of_the_first(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (job,) = await _claim(database)
    await _write(database, _result(job, block))
    again = await _again(connection, database, accepted)
    await _write(
        database, _result(again, block, enrichment=replace(ENRICHMENT, title="A new title"))
    )
    assert (await read(database, block, accepted.id)).title == "A new title"
    (revision,) = await connection.fetch("SELECT * FROM memory_block_revisions")
    assert (revision["block_id"], revision["revision"]) == (accepted.id, 1)
    assert (revision["reason"], revision["changed_by"]) == ("enrichment", f"job {accepted.job_id}")
    before = await connection.fetchval("SELECT before ->> 'title' FROM memory_block_revisions")
    assert before == "A grey cat"


async def test_without_enrichment_what_is_there_stays(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (job,) = await _claim(database)
    await _write(database, _result(job, block, vector=_vector(1, 0, 0, 0)))
    first = await read(database, block, accepted.id)
    again = await _again(connection, database, accepted)
    await _write(database, _result(again, block, enrichment=None))
    second = await read(database, block, accepted.id)
    assert replace(second, updated_at=first.updated_at) == first
    assert await _vectors(connection, accepted.id) == [(MODEL, "[1,0,0,0]")]
    assert await connection.fetchval("SELECT count(*) FROM memory_block_revisions") == 0


async def test_a_block_without_enrichment_or_vectors_becomes_active(database: Database) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (job,) = await _claim(database)
    await _write(database, _result(job, block, enrichment=None))
    stored = await read(database, block, accepted.id)
    assert (stored.status, stored.enrichment, stored.title) == ("active", "none", None)


async def test_several_jobs_of_several_users_in_one_statement(
    database: Database, connection: asyncpg.Connection
) -> None:
    blocks = [new_block("word " * 500 * n or "none", user_id=f"user {n % 3}") for n in range(6)]
    accepted = await ingest(database, *blocks)
    jobs = await _claim(database)
    foreign = jobs[3]._replace(attempt=9)
    results = [
        _result(
            foreign if n == 3 else job,
            block,
            enrichment=replace(ENRICHMENT, title=f"title {n}", tags=[f"t{i}" for i in range(n)]),
            vector=_vector(n, 0, 0, 1) if n != 4 else None,
        )
        for n, (job, block) in enumerate(zip(jobs, blocks, strict=True))
    ]
    assert await _write(database, *results) == [True, True, True, False, True, True]
    for n, (response, block, result) in enumerate(zip(accepted, blocks, results, strict=True)):
        stored = await read(database, block, response.id)
        if n == 3:
            assert (stored.status, stored.title) == ("pending_enrichment", None)
            continue
        assert (stored.title, list(stored.tags)) == (f"title {n}", [f"t{i}" for i in range(n)])
        expected = (None, None) if n == 4 else (MODEL, f"[{n},0,0,1]")
        assert await _vectors(connection, response.id) == [expected] * len(result.passages)
    assert len(results[5].passages) > len(results[1].passages) > 1


async def test_a_block_that_was_deleted_meanwhile_ends_its_job(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    (job,) = await _claim(database)
    await connection.execute("DELETE FROM memory_blocks")
    await connection.execute("DELETE FROM memory_passages")
    assert await _write(database, _result(job, block, vector=_vector(1, 0, 0, 0))) == [True]
    assert (await job_row(connection, accepted.job_id))["status"] == "completed"
    assert await connection.fetchval("SELECT count(*) FROM memory_passages") == 0


@pytest.mark.parametrize("changes", ['{"metadata": {"a": 1}}', '{"source": "mail"}'])
async def test_an_edit_beside_a_running_job_does_not_leave_the_block_waiting(
    changes: str, database: Database, connection: asyncpg.Connection
) -> None:
    """Its result, of an older revision, is dropped; without another job that was the end of it."""
    block = new_block()
    (accepted,) = await ingest(database, block)
    (job,) = await _claim(database)
    edited = await connection.fetchval(
        "SELECT edit_memory_block($1, $2, $3, 1, 'test', $4, NULL, NULL, NULL, NULL, NULL, 3)",
        *(block.scope.project_id, block.scope.user_id, accepted.id, changes),
    )
    assert edited == 2
    store = PostgresBlockStore(database, attempts_max=3)
    await store.write_back("w1", [_result(job, block)])
    assert (await read(database, block, accepted.id)).status == "pending_enrichment"
    (again,) = await _claim(database)
    assert (again.block_id, again.attempt) == (accepted.id, 1)
    await store.write_back("w1", [replace(_result(again, block), revision=2)])
    assert (await read(database, block, accepted.id)).status == "active"


async def test_an_edit_before_its_job_runs_makes_no_other_job(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = new_block()
    (accepted,) = await ingest(database, block)
    await connection.fetchval(
        "SELECT edit_memory_block($1, $2, $3, 1, 'test', $4, NULL, NULL, NULL, NULL, NULL, 3)",
        *(block.scope.project_id, block.scope.user_id, accepted.id, '{"source": "mail"}'),
    )
    assert [job.id for job in await _claim(database)] == [accepted.job_id]
