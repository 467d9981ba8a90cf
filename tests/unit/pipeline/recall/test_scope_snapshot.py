"""A snapshot that was changed step by step equals one that was made at once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.search import NEVER, WINDOW_ORDINAL, ScopeChanges, ScopeMark, ScopeRows
from luma_memory.pipeline.recall.scope_snapshot import ScopeSnapshot, contains, snapshot_of
from luma_memory.pipeline.recall.snapshots import Current

_DIMENSION = 4
_TERMS = (3, 5, 8)


@dataclass(frozen=True)
class Row:
    block: int
    ordinal: int
    session: int
    at: int
    expiry: int
    superseded: int
    vector: int | None
    terms: tuple[int, ...]


def id_of(block: int) -> bytes:
    # Two blocks have each first half, as where many are made within a millisecond.
    return UUID(int=((block // 2 + 1) << 64) + (7 * block) % 5).bytes


def rows_of(rows: Sequence[Row]) -> ScopeRows:
    def numbers(typecode: str, values: Sequence[int]) -> array[int]:
        return array(typecode, values)

    vectors = [row.vector for row in rows if row.vector is not None]
    return ScopeRows(
        block_ids=b"".join(id_of(row.block) for row in rows),
        ordinals=numbers("i", [row.ordinal for row in rows]),
        sessions=numbers("q", [row.session for row in rows]),
        instants=numbers("q", [row.at for row in rows]),
        speakers=numbers("q", [row.block % 3 for row in rows]),
        expiries=numbers("q", [row.expiry for row in rows]),
        superseded_from=numbers("q", [row.superseded for row in rows]),
        has_vector=bytes(row.vector is not None for row in rows),
        vectors=np.array([[v, 1, 0, -v] for v in vectors], dtype=np.float16).tobytes(),
        term_counts=numbers("i", [len(row.terms) for row in rows]),
        term_indices=numbers("i", [term for row in rows for term in row.terms]),
        term_weights=array("f", [row.block + term for row in rows for term in row.terms]),
    )


@st.composite
def blocks(draw: st.DrawFn, number: int) -> list[Row]:
    """The passages of a block, and perhaps a window; none at all if it was deleted."""
    session, at = draw(st.integers(0, 2)), draw(st.integers(0, 3))
    expiry = draw(st.sampled_from([NEVER, NEVER, 5, 15]))
    superseded = draw(st.sampled_from([NEVER, NEVER, NEVER, 2]))

    def row(ordinal: int) -> Row:
        vector = draw(st.none() | st.integers(-4, 4))
        terms = draw(st.sets(st.sampled_from(_TERMS))) if ordinal >= 0 else set()
        return Row(number, ordinal, session, at, expiry, superseded, vector, tuple(sorted(terms)))

    ordinals = list(range(draw(st.integers(0, 2))))
    if draw(st.booleans()):
        ordinals.insert(0, WINDOW_ORDINAL)
    return draw(st.permutations([row(ordinal) for ordinal in ordinals]))


def facts(snapshot: ScopeSnapshot) -> list[object]:
    """Everything a search reads."""
    current = Current(snapshot, snapshot.view, array("i"))
    similarities = current.similarities([0.5, 0.25, 0.0, 0.0])
    matched = current.matched(_TERMS)
    places = matched.arrangement
    return [
        column.tolist()
        for column in (
            places.ordinals,
            places.block,
            places.high,
            places.low,
            places.instants,
            places.speakers,
            places.neighbors.previous,
            places.neighbors.following,
            places.neighbors.session,
            places.covered,
            np.nan_to_num(similarities.dense, nan=-9.0),
            similarities.windows,
        )
    ] + [(p.passages.tolist(), p.weights.tolist()) for p in matched.postings]


@given(st.data())
def test_any_changes_lead_to_the_same_snapshot(data: st.DataObject) -> None:
    stored = {n: data.draw(blocks(n)) for n in range(data.draw(st.integers(0, 8)))}
    version, now = 1, 0

    def fresh() -> ScopeSnapshot:
        rows = [row for n in sorted(stored) for row in stored[n]]
        return snapshot_of([rows_of(rows)], ScopeMark(version, None), now)

    snapshot = fresh()
    for _ in range(data.draw(st.integers(1, 8))):
        version, now = version + 1, now + data.draw(st.sampled_from([0, 0, 4]))
        changed = data.draw(st.sets(st.integers(0, 12), max_size=4))
        stored |= {n: data.draw(blocks(n)) for n in changed}
        rows = rows_of([row for n in changed for row in stored[n]])
        ids = frozenset(id_of(n) for n in changed)
        snapshot = snapshot.at(ScopeMark(version, None), now, ScopeChanges(ids, rows))
        if data.draw(st.booleans()):
            snapshot = snapshot.packed()
            assert len(snapshot.segments) == 1
        assert facts(snapshot) == facts(fresh())
        assert snapshot.mark == ScopeMark(version, None)


def test_a_version_without_changed_blocks_keeps_the_arrangement() -> None:
    row = Row(1, 0, 1, 1, NEVER, NEVER, 2, (3,))
    snapshot = snapshot_of([rows_of([row])], ScopeMark(1, None), 0)
    nothing = ScopeChanges(frozenset(), rows_of([]))
    assert snapshot.at(ScopeMark(2, None), 9, nothing).view is snapshot.view
    assert snapshot.at(snapshot.mark, 9, nothing) is snapshot


def test_the_arrangement_is_made_anew_when_a_row_expires() -> None:
    rows = [replace(Row(n, 0, 1, n, NEVER, NEVER, 2, ()), expiry=n * 10 or NEVER) for n in range(3)]
    snapshot = snapshot_of([rows_of(rows)], ScopeMark(1, None), 0)
    nothing = ScopeChanges(frozenset(), rows_of([]))
    assert snapshot.next_expiry == 10
    assert snapshot.at(snapshot.mark, 9, nothing) is snapshot
    later = snapshot.at(snapshot.mark, 10, nothing)
    assert (len(later.view.arrangement.high), later.next_expiry) == (2, 20)
    assert later.at(snapshot.mark, 20, nothing).next_expiry == NEVER


def test_many_small_changes_make_few_segments() -> None:
    snapshot = snapshot_of([rows_of([])], ScopeMark(0, None), 0)
    for n in range(100):
        changes = ScopeChanges(
            frozenset({id_of(n)}), rows_of([Row(n, 0, 1, n, NEVER, NEVER, 2, (3,))])
        )
        snapshot = snapshot.at(ScopeMark(n + 1, None), 0, changes)
    assert len(snapshot.segments) <= 8
    assert snapshot.is_loose
    assert not snapshot.packed().is_loose
    assert snapshot.packed().size_bytes <= snapshot.size_bytes


@given(st.sets(st.integers(0, 40)), st.lists(st.integers(0, 40), max_size=30))
def test_ids_are_found_among_few_and_among_many(requested: set[int], rows: list[int]) -> None:
    halves = np.frombuffer(b"".join(map(id_of, rows)), dtype=">u8").astype(np.uint64)
    high, low = halves[::2], halves[1::2]
    found = contains(b"".join(map(id_of, requested)), high, low)
    assert found.tolist() == [id_of(n) in {id_of(w) for w in requested} for n in rows]
