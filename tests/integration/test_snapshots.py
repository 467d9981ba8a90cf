"""A search by a snapshot returns what the scan returns, whatever happened to the scope."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import numpy as np
import pytest
from tests.support.postgres_majors import every_postgres
from tests.support.running import ingest
from tests.support.scope_machine import ScopeMachine, run_machine
from tests.support.scope_world import ADA, MODELS
from tests.support.snapshots import (
    QUERIES,
    assert_as_scanned,
    assert_equal,
    new_recall,
    new_snapshots,
    top,
)

from luma_memory.domain.clock import SystemClock
from luma_memory.domain.filters import parse_filter
from luma_memory.domain.item_filters import parse_item_filter
from luma_memory.domain.scope import Scope
from luma_memory.domain.search import (
    EVERY_BLOCK,
    EVERY_ITEM,
    ItemSelection,
    Selection,
    every_row,
)
from luma_memory.pipeline.recall.recall import Recall
from luma_memory.pipeline.recall.scope_snapshot import ScopeSnapshot
from luma_memory.pipeline.recall.snapshots import IDLE_SECONDS, Current, Snapshots
from luma_memory.postgres.database import Database
from luma_memory.testing.sample_blocks import OCCURRED_AT, new_block

# As of before, between and after the blocks of the tests; what their filters select changes with
# enrichment, edits and deletion.
RESTRICTED: Sequence[dict[str, Any]] = (
    {"include_superseded": True},
    {"as_of": OCCURRED_AT + timedelta(minutes=3)},
    {"as_of": OCCURRED_AT + timedelta(minutes=9), "include_superseded": True},
    {"filters": parse_filter({"session_id": "s1"})},
    {
        "filters": parse_filter({"OR": [{"speaker": "Bea Smith"}, {"status": "active"}]}),
        "as_of": OCCURRED_AT + timedelta(minutes=6),
    },
)
# Namespaces and values of the items that the machine puts.
ITEMS: Sequence[ItemSelection] = (
    ItemSelection(),
    ItemSelection(prefix=("a",)),
    ItemSelection(prefix=("a", "b"), is_exact=True),
    ItemSelection(prefix=("line\u2028break",)),
    ItemSelection(filter=parse_item_filter({"number": {"$gt": 1}})),
    ItemSelection(prefix=("a", "b"), filter=parse_item_filter({"number": 1})),
    ItemSelection(prefix=("none",)),
)


def row_values(snapshot: ScopeSnapshot) -> dict[tuple[int, int, int], tuple[Any, ...]]:
    """What a snapshot has of each row that holds, whichever segment it lies in."""
    places, found = snapshot.places, {}
    terms = _terms(snapshot)
    vectors = _vectors(snapshot)
    for row in snapshot.order.tolist():
        found[int(places.high[row]), int(places.low[row]), int(places.ordinals[row])] = (
            int(places.sessions[row]),
            int(places.instants[row]),
            int(places.speakers[row]),
            int(snapshot.expiries[row]),
            int(snapshot.superseded_from[row]),
            vectors.get(row),
            terms.get(row),
        )
    return found


def live_values(snapshot: ScopeSnapshot) -> dict[tuple[int, int, int], tuple[Any, ...]]:
    """The same of rows that have not expired, with their namespaces, without their expiries:
    reading an item may extend its time."""
    places, namespaces = snapshot.places, snapshot.namespaces
    rows = snapshot.order[snapshot.expiries[snapshot.order] > snapshot.read_at]
    values, found = row_values(snapshot), {}
    for row in rows.tolist():
        key = int(places.high[row]), int(places.low[row]), int(places.ordinals[row])
        namespace = namespaces.texts[namespaces.of_row[row]]
        found[key] = (*values[key][:3], *values[key][4:], namespace)
    return found


def _terms(snapshot: ScopeSnapshot) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = {}
    start = 0
    for segment in snapshot.segments:
        terms = np.repeat(segment.terms, np.diff(segment.starts))
        for term, row, weight in zip(terms, segment.rows, segment.weights, strict=True):
            found.setdefault(start + int(row), {})[int(term)] = float(weight)
        start += segment.row_count
    return found


def _vectors(snapshot: ScopeSnapshot) -> dict[int, bytes]:
    vectors = [vector.tobytes() for segment in snapshot.segments for vector in segment.vectors]
    rows = np.flatnonzero(snapshot.places.has_vector).tolist()
    assert snapshot.vector_of[rows].tolist() == list(range(len(vectors)))
    return dict(zip(rows, vectors, strict=True))


class SnapshotMachine(ScopeMachine):
    """Two processes' snapshots follow the scope; one of them only now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._processes = [new_snapshots(self.world.database) for _ in range(2)]
        self._checks = 0

    def check(self) -> None:
        self._checks += 1
        for number, snapshots in enumerate(self._processes):
            if number == 0 or self._checks % 3 == 0:
                self.world.run(self._compare(snapshots))

    async def _compare(self, snapshots: Snapshots) -> None:
        scan = new_recall(self.world.database, None, self.model)
        recall = new_recall(self.world.database, snapshots, self.model)
        await snapshots.sweep()
        await snapshots.loaded()  # of items, whose last searches may have begun to load
        before = snapshots.counts.loaded
        for query in QUERIES:
            await assert_as_scanned(recall, scan, query)
        await snapshots.loaded()
        if not self.chain_is_broken and self._checks > 1 and snapshots is self._processes[0]:
            assert snapshots.counts.loaded <= before + 1
        await self._compare_blocks(snapshots, recall, scan)
        await self._compare_items(snapshots, recall, scan)

    async def _compare_blocks(self, snapshots: Snapshots, recall: Recall, scan: Recall) -> None:
        current = await snapshots.current(ADA, self.model, ())
        if current is None:
            return
        used = snapshots.counts.used
        await assert_as_scanned(recall, scan, QUERIES[0])
        fields = RESTRICTED[self._checks % len(RESTRICTED)]
        await assert_as_scanned(recall, scan, QUERIES[1], **fields)
        assert snapshots.counts.used == used + 2
        loaded = await self._loaded(EVERY_BLOCK)
        if loaded is not None:
            assert row_values(current.snapshot) == row_values(loaded.snapshot)

    async def _compare_items(self, snapshots: Snapshots, recall: Recall, scan: Recall) -> None:
        for kind in ("items", "all"):
            for _ in range(2):  # the first is not enough after an erasure
                await snapshots.current(ADA, self.model, (), every_row(kind))
        await snapshots.loaded()
        used, started = snapshots.counts.used, time.monotonic()
        for number in range(3):
            items = ITEMS[(self._checks + number) % len(ITEMS)]
            await assert_as_scanned(recall, scan, QUERIES[number % 2], items=items)
        await assert_as_scanned(recall, scan, QUERIES[0], items=EVERY_ITEM)
        every = every_row("items")
        current = await snapshots.current(ADA, self.model, (), every)
        if current is None:
            return
        # A search between the expiry of two items may scan; on a slow machine, many fall into it.
        is_quick = time.monotonic() - started < 1.0
        is_followed = self._checks > 2 and snapshots is self._processes[0]
        if is_quick and is_followed and not self.chain_is_broken:
            assert snapshots.counts.used == used + 5
        loaded = await self._loaded(every)
        if loaded is not None:
            assert live_values(current.snapshot) == live_values(loaded.snapshot)

    async def _loaded(self, selection: Selection) -> Current | None:
        fresh = new_snapshots(self.world.database)
        for _ in range(2):
            await fresh.current(ADA, self.model, (), selection)
        await fresh.loaded()
        loaded = await fresh.current(ADA, self.model, (), selection)
        await fresh.close()
        return loaded

    def teardown(self) -> None:
        for snapshots in self._processes:
            self.world.run(snapshots.close())


@pytest.fixture
def own_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sweep by the clock: it drops an erased scope between two searches that are counted."""
    monkeypatch.setattr("luma_memory.pipeline.recall.snapshots.SWEEP_SECONDS", 86_400.0)


@every_postgres
@pytest.mark.usefixtures("own_sweeps")
def test_a_snapshot_equals_the_scan_in_any_order(dsn: str) -> None:
    run_machine(SnapshotMachine, dsn, examples=5, steps=15)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.usefixtures("own_sweeps")
@every_postgres
def test_a_snapshot_equals_the_scan_in_many_long_orders(dsn: str) -> None:
    run_machine(SnapshotMachine, dsn, examples=300, steps=50)


async def _write(database: Database, *texts: str) -> None:
    await ingest(database, *(new_block(text, user_id="ada") for text in texts))


async def _loaded(database: Database, **fields: Any) -> Snapshots:
    """Snapshots that hold Ada's scope, by two searches."""
    snapshots = new_snapshots(database, **fields)
    recall = new_recall(database, snapshots)
    for _ in range(2):
        await top(recall, QUERIES[0])
    await snapshots.loaded()
    return snapshots


async def test_processes_that_write_and_search_in_turns_find_each_others_writes(
    database: Database, connect_database: Callable[[], Database]
) -> None:
    await _write(database, "The kayak is in the garage.")
    other = connect_database()
    processes = [(database, await _loaded(database)), (other, await _loaded(other))]
    for number in range(12):
        text = f"The kayak was moved to harbour {number}."
        await _write(processes[number % 2][0], text)
        for own, snapshots in processes:
            used = snapshots.counts.used
            found = await top(new_recall(own, snapshots), f"Was the kayak at harbour {number}?")
            assert text in [hit.block.content for hit in found.hits]
            assert snapshots.counts.used == used + 1
            assert_equal(
                found, await top(new_recall(own, None), f"Was the kayak at harbour {number}?")
            )
    for _, snapshots in processes:
        assert snapshots.counts.loaded == 1  # the log was enough
        await snapshots.close()


async def test_searches_during_updates_equal_the_scan(database: Database) -> None:
    await _write(database, *(f"The kayak trip {n} went down the river." for n in range(80)))
    snapshots = await _loaded(database)
    recall = new_recall(database, snapshots)
    for number in range(4):
        await _write(database, *(f"Another {number} boat {n} on the river." for n in range(40)))
        found = await asyncio.gather(*(top(recall, query) for query in QUERIES * 3))
        for result, query in zip(found, QUERIES * 3, strict=True):
            assert_equal(result, await top(new_recall(database, None), query))
    assert snapshots.counts.loaded == 1
    assert snapshots.counts.packed >= 1  # while the other searches continued
    await snapshots.close()


async def test_more_changes_than_one_response_holds_cause_a_scan_and_a_reload(
    database: Database,
) -> None:
    await _write(database, "The kayak is in the garage.")
    snapshots = await _loaded(database)
    await _write(database, *(f"Bea sold boat {n}." for n in range(300)))
    recall, scan = new_recall(database, snapshots), new_recall(database, None)
    assert_equal(await top(recall, QUERIES[0]), await top(scan, QUERIES[0]))
    await snapshots.loaded()
    assert_equal(await top(recall, QUERIES[0]), await top(scan, QUERIES[0]))
    assert snapshots.counts.loaded == 2
    await snapshots.close()


async def test_what_does_not_fit_is_scanned(database: Database) -> None:
    await _write(database, *(f"The kayak trip {n} went down the river." for n in range(20)))
    snapshots = await _loaded(database, bytes_max=1_000)
    assert not snapshots.holds(ADA)
    found = await top(new_recall(database, snapshots), QUERIES[0])
    assert_equal(found, await top(new_recall(database, None), QUERIES[0]))
    await snapshots.close()


async def test_the_least_recently_used_scope_is_evicted(database: Database) -> None:
    bea = Scope("default", "bea")
    for user in ("ada", "bea"):
        await ingest(database, *(new_block(f"The kayak {n}.", user_id=user) for n in range(20)))
    first = await _loaded(database)
    snapshots = await _loaded(database, bytes_max=int(first.size_bytes * 1.5))
    for _ in range(2):
        await snapshots.current(bea, MODELS[0], ())
    await snapshots.loaded()
    assert (snapshots.holds(bea), snapshots.holds(ADA)) == (True, False)
    assert snapshots.counts.evicted == 1
    await first.close()
    await snapshots.close()


@pytest.mark.parametrize("comes_back", [False, True])
async def test_an_erased_user_is_in_no_process_any_more(
    comes_back: bool, database: Database, connection: asyncpg.Connection
) -> None:
    await _write(database, "The kayak is in the garage.")
    snapshots = await _loaded(database)
    assert snapshots.holds(ADA)
    await snapshots.sweep()
    assert snapshots.holds(ADA)
    await connection.execute(
        "SELECT erase_memory_user('default', 'ada', gen_random_uuid(), NULL, now(), 0, 0, 0)"
    )
    if comes_back:
        await _write(database, "Somewhere else.")
    await snapshots.sweep()
    assert not snapshots.holds(ADA)
    await snapshots.close()


async def test_no_array_of_an_erased_user_stays_in_memory(
    database: Database, connection: asyncpg.Connection
) -> None:
    await _write(database, *(f"The kayak trip {n} went down the river." for n in range(5)))
    snapshots = await _loaded(database)
    await _write(database, "The kayak was sold.")
    current = await snapshots.current(ADA, MODELS[0], ())
    assert current is not None
    kept = current.snapshot
    arrays = [*kept.places.columns, kept.view.passage_of]
    arrays += [column for part in kept.segments for column in (part.vectors, part.weights)]
    assert len(kept.segments) > 1
    in_snapshot = [weakref.ref(array) for array in arrays] + [weakref.ref(kept)]
    del current, kept, arrays
    assert all(reference() is not None for reference in in_snapshot)
    await connection.execute(
        "SELECT erase_memory_user('default', 'ada', gen_random_uuid(), NULL, now(), 0, 0, 0)"
    )
    await snapshots.sweep()
    gc.collect()
    assert [reference() for reference in in_snapshot] == [None] * len(in_snapshot)
    await snapshots.close()


async def test_an_idle_snapshot_is_dropped(database: Database) -> None:
    await _write(database, "The kayak is in the garage.")
    snapshots = await _loaded(database)
    snapshots.clock = _Later()
    await snapshots.sweep()
    assert not snapshots.holds(ADA)
    await snapshots.close()


class _Later(SystemClock):
    def monotonic(self) -> float:
        return super().monotonic() + IDLE_SECONDS + 1
