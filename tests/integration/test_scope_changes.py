"""The log of changes is complete: a copy of a scope that follows it equals the scope."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import ingest
from tests.support.scope_machine import ScopeMachine, run_machine
from tests.support.scope_world import ADA, World

from luma_memory.postgres.database import Database
from luma_memory.testing.sample_blocks import new_block

_STATE = """
SELECT coalesce((SELECT version FROM memory_users WHERE user_id = 'ada'), 0) AS version,
       coalesce((SELECT changed_at::text FROM memory_scope_models
                 WHERE user_id = 'ada'), '') AS moved
"""
_CHANGES = """
SELECT version, previous, block_ids FROM memory_changes
WHERE user_id = 'ada' AND version > $1 ORDER BY version
"""
_ROWS = """
SELECT p.block_id, p.ordinal, p.session_id, p.occurred_at, p.expires_at, p.speaker_key,
       p.embedding_model, p.embedding::text AS embedding, p.lexemes::text AS lexemes, p.item,
       b.superseded_at IS NOT NULL AS is_superseded
FROM memory_passages AS p JOIN memory_blocks AS b ON b.user_id = p.user_id AND b.id = p.block_id
WHERE p.user_id = 'ada' AND ($1::uuid[] IS NULL OR p.block_id = ANY ($1))
ORDER BY p.block_id, p.ordinal
"""
Rows = dict[tuple[UUID, int], Any]


@dataclass
class Copy:
    """A scope's rows as of a version."""

    version: int
    moved: str
    rows: Rows


def read_copy(world: World) -> Copy:
    (state,) = world.rows(_STATE)
    return Copy(state["version"], state["moved"], _rows(world, None))


def follow(world: World, copy: Copy, now: datetime) -> Copy | None:
    """The copy with what the log has since; None when its chain is broken. Items that expire are
    read again: their time to live may have begun anew."""
    (state,) = world.rows(_STATE)
    at, changed = copy.version, set[UUID]()
    for entry in world.rows(_CHANGES, copy.version):
        if entry["previous"] != at or entry["block_ids"] is None:
            return None
        at = entry["version"]
        changed.update(entry["block_ids"])
    if at != state["version"] or copy.moved != state["moved"]:
        return None
    changed.update(key[0] for key in _expired(copy.rows, now))
    kept = {key: row for key, row in copy.rows.items() if key[0] not in changed}
    return Copy(at, copy.moved, kept | _rows(world, list(changed)))


def _expired(rows: Rows, now: datetime) -> list[tuple[UUID, int]]:
    return [key for key, row in rows.items() if row["item"] and (row["expires_at"] or now) < now]


def readable(rows: Rows, now: datetime) -> Rows:
    """Without items that have expired, and without the times when others expire."""
    gone = _expired(rows, now)
    return {
        key: row | ({"expires_at": None} if row["item"] else {})
        for key, row in rows.items()
        if key not in gone
    }


def _rows(world: World, ids: list[UUID] | None) -> Rows:
    return {(row["block_id"], row["ordinal"]): dict(row) for row in world.rows(_ROWS, ids)}


class LogMachine(ScopeMachine):
    def __init__(self) -> None:
        super().__init__()
        self._copy = read_copy(self.world)

    def check(self) -> None:
        (clock,) = self.world.rows("SELECT clock_timestamp() AS now")
        now = clock["now"]
        whole = read_copy(self.world)
        copy = follow(self.world, self._copy, now)
        if copy is None:
            assert self.chain_is_broken, "the chain broke by what should have been logged"
            copy = whole
        assert readable(copy.rows, now) == readable(whole.rows, now)
        self._copy = copy


@every_postgres
def test_a_copy_that_follows_the_log_equals_the_scope(dsn: str) -> None:
    run_machine(LogMachine, dsn, examples=10, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@every_postgres
def test_a_copy_that_follows_the_log_equals_the_scope_in_many_long_orders(dsn: str) -> None:
    run_machine(LogMachine, dsn, examples=300, steps=50)


@pytest.fixture
def machine(dsn: str) -> Iterator[LogMachine]:
    """A scope with three turns of one session and the window that each ends."""
    world = World(dsn)
    made: LogMachine = type("Machine", (LogMachine,), {"world": world})()
    made.ingest(ADA, ["kayak one", "boat two", "cat three"], "s1", None, 0, None)
    made.write_back(3, True)
    for number in range(3):
        made.windows(number, None, "grey river", False)
    made.check()
    yield made
    world.close()


def test_windows_of_the_turns_after_a_changed_one_are_logged(machine: LogMachine) -> None:
    machine.edit(0, "sold the boat", "s1", False)
    machine.check()
    for number in range(3):
        machine.windows(number, None, "old garage", False)
    machine.check()
    machine.delete(0)
    machine.check()


def test_a_block_that_comes_back_with_the_deletion_of_a_later_one_is_logged(
    machine: LogMachine,
) -> None:
    machine.supersede(2, 0)
    machine.check()
    superseded = "SELECT FROM memory_blocks WHERE superseded_at IS NOT NULL"
    assert len(machine.world.rows(superseded)) == 1
    machine.delete(2)
    assert machine.world.rows(superseded) == []
    machine.check()


def test_keys_of_speakers_are_logged(machine: LogMachine) -> None:
    machine.ingest(ADA, ["a speaker's turn"], "s2", "Bea Smith", 0, None)
    machine.windows(0, None, "cat", True)
    machine.check()


async def test_entries_are_pruned_after_fifteen_minutes(
    database: Database, connection: asyncpg.Connection
) -> None:
    await ingest(database, new_block(user_id="ada"))
    await ingest(database, new_block(user_id="bea"))
    await connection.execute(
        "UPDATE memory_changes SET version = version - 16 * 60000000 WHERE user_id = 'bea'"
    )
    await connection.execute("SELECT prune_memory_jobs(now(), now())")
    left = await connection.fetch("SELECT user_id FROM memory_changes")
    assert [row["user_id"] for row in left] == ["ada"]
