"""The same block sent again: the first one's id, counted; and what is not the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import ingest, read

from luma_memory.domain.block import Accepted, NewBlock
from luma_memory.postgres.database import Database
from luma_memory.store.edits import PostgresBlockEditor
from luma_memory.testing.sample_blocks import OCCURRED_AT, new_block

DAY = timedelta(days=1)


def timed(**fields: Any) -> NewBlock:
    """A block with a time of its own."""
    return new_block(**{"repeats_since": fields.get("occurred_at", OCCURRED_AT)} | fields)


def untimed(at: datetime = OCCURRED_AT, **fields: Any) -> NewBlock:
    """A block whose client said no time, accepted at `at`."""
    return new_block(occurred_at=at, repeats_since=at - DAY, **fields)


async def rows(connection: asyncpg.Connection) -> tuple[int, int, int]:
    """Blocks, jobs, and how often blocks were sent again."""
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM memory_blocks) AS blocks, (SELECT count(*) FROM memory_jobs)"
        " AS jobs, (SELECT coalesce(sum(repeat_count), 0) FROM memory_blocks) AS repeats"
    )
    assert row is not None
    return tuple(row)


@every_postgres
async def test_sent_again_it_is_the_first_one_and_counted(
    database: Database, connection: asyncpg.Connection
) -> None:
    block = timed(session_id="s", speaker="Caroline", metadata={"a": [1]})
    (first,) = await ingest(database, block)
    assert (first.created, first.repeats) == (True, None)
    (again,) = await ingest(database, block)
    assert again == Accepted(first.id, first.job_id, created=False, repeats="pending_enrichment")
    await connection.execute("UPDATE memory_blocks SET status = 'active'")
    last, other = await ingest(database, block, timed(content="Another cat."))
    assert (last.id, last.repeats, other.created) == (first.id, "active", True)
    assert await rows(connection) == (2, 2, 2)
    assert (await read(database, block, first.id)).repeat_count == 2


async def test_within_one_statement(database: Database, connection: asyncpg.Connection) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    outcomes = await ingest(
        database,
        timed(),
        timed(user_id="other"),
        timed(),
        untimed(now),
        timed(content="Another cat."),
        untimed(now + timedelta(seconds=1)),
        timed(),
    )
    first, foreign, second, later, another, latest, third = outcomes
    assert first.id == second.id == third.id
    assert later.id == latest.id
    assert len({first.id, foreign.id, later.id, another.id}) == 4
    assert [outcome.created for outcome in outcomes] == [
        True,
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    assert {a.repeats for a in outcomes if not a.created} == {"pending_enrichment"}
    assert await rows(connection) == (4, 4, 3)


DIFFERENT: Mapping[str, dict[str, Any]] = {
    "words": {"content": "Caroline adopted a grey cat!"},
    "user": {"user_id": "melanie"},
    "project": {"project_id": "other"},
    "session": {"session_id": "s2"},
    "no session": {"session_id": None},
    "speaker": {"speaker": "Melanie"},
    "agent": {"agent_id": "a"},
    "source": {"source": "mail"},
    "metadata": {"metadata": {"n": 1}},
    "time": {"occurred_at": OCCURRED_AT + timedelta(minutes=1)},
    "expiry": {"expires_at": datetime(2100, 1, 1, tzinfo=UTC)},
    "a name of the client's own": {"external_id": "message-7"},
    "not asked for": {"repeats_since": None},
}


@pytest.mark.parametrize("what", DIFFERENT)
async def test_what_differs_in_anything_is_another_block(what: str, database: Database) -> None:
    same = {"session_id": "s", "speaker": "Caroline"}
    (first,) = await ingest(database, timed(**same))
    for block in (timed(**same | DIFFERENT[what]), timed(**same)):
        (outcome,) = await ingest(database, block)
        assert (outcome.id == first.id) == (block == timed(**same)), what


async def test_without_a_time_the_same_within_a_day_is_the_same(database: Database) -> None:
    (first,) = await ingest(database, untimed())
    (soon,) = await ingest(database, untimed(OCCURRED_AT + timedelta(hours=20)))
    (late,) = await ingest(database, untimed(OCCURRED_AT + timedelta(hours=25)))
    assert soon.id == first.id
    assert late.created


@pytest.mark.parametrize("how", ["failed", "superseded", "deleted", "edited"])
async def test_a_repetition_of_an_outdated_block_is_stored_again(
    how: str, database: Database, connection: asyncpg.Connection
) -> None:
    block = timed()
    (first,) = await ingest(database, block)
    editor = PostgresBlockEditor(database, attempts_max=3)
    if how == "failed":
        await connection.execute("UPDATE memory_blocks SET status = 'failed'")
    elif how == "superseded":
        await connection.execute(
            "UPDATE memory_blocks SET superseded_by = gen_random_uuid(), superseded_at = now()"
        )
    elif how == "deleted":
        await editor.delete(block.scope, first.id, revision=None)
    else:
        await editor.edit(
            block.scope, first.id, revision=1, changed_by="x", changes={"speaker": "Melanie"},
            content_hash=None, passages=None,
        )  # fmt: skip
    (again,) = await ingest(database, block)
    assert again.created
    assert again.id != first.id


async def test_a_key_of_a_repetition_is_used(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Its own repetition gets the same answer, also when the block is gone."""
    (first,) = await ingest(database, timed(idempotency_key="one", request_hash=b"1"))
    second = timed(idempotency_key="two", request_hash=b"2")
    (again,) = await ingest(database, second)
    assert (again.id, again.repeats, again.same_request) == (first.id, "pending_enrichment", True)
    (replayed,) = await ingest(database, second)
    assert (replayed.id, replayed.job_id, replayed.same_request) == (first.id, first.job_id, True)
    assert replayed == again  # and is not counted again: see below
    (other,) = await ingest(
        database, timed(content="Else.", idempotency_key="two", request_hash=b"3")
    )
    assert (other.created, other.same_request) == (False, False)
    assert await rows(connection) == (1, 1, 1)
    editor = PostgresBlockEditor(database, attempts_max=3)
    await editor.delete(second.scope, first.id, revision=None)
    (late,) = await ingest(database, second)
    assert (late.id, late.created) == (first.id, False)
    assert (await rows(connection))[0] == 0


async def test_keys_and_repetitions_of_one_statement(
    database: Database, connection: asyncpg.Connection
) -> None:
    keyed = timed(idempotency_key="k", request_hash=b"k")
    other_key = timed(idempotency_key="l", request_hash=b"l")
    named = timed(external_id="e")
    outcomes = await ingest(database, keyed, timed(), other_key, keyed, named, named, other_key)
    first, named_id = outcomes[0].id, outcomes[4].id
    assert [outcome.id for outcome in outcomes] == [*[first] * 4, named_id, named_id, first]
    assert [bool(outcome.repeats) for outcome in outcomes] == [
        *(False, True, True, False, False, False, True)
    ]
    assert await rows(connection) == (2, 2, 2)


async def test_fifty_callers_at_once_store_one_block(
    database: Database, connection: asyncpg.Connection
) -> None:
    """Each in a transaction of its own: the user's row is what they queue at."""
    block = untimed()
    outcomes = await asyncio.gather(*(ingest(database, block) for _ in range(50)))
    assert len({outcome.id for (outcome,) in outcomes}) == 1
    assert [outcome.created for (outcome,) in outcomes].count(True) == 1
    assert await rows(connection) == (1, 1, 49)
