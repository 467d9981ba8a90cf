"""A copy of one scope's rows in memory, scored without the database.

Immutable: a change creates a new snapshot, so readers need no lock. Columns are
copied with each change; vectors and terms are in segments shared by snapshots, and obsolete
rows stay in them until they are packed again.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import (
    NEVER,
    ItemSelection,
    ScopeChanges,
    ScopeMark,
    ScopeRows,
    Selection,
    microseconds,
)
from luma_memory.pipeline.recall.arrangement import (
    Arrangement,
    RowPlaces,
    arrange,
    id_halves,
    row_order,
)
from luma_memory.pipeline.recall.groups import Indices
from luma_memory.pipeline.recall.postings import Posting
from luma_memory.pipeline.recall.row_namespaces import RowNamespaces
from luma_memory.pipeline.recall.segments import Segment, merged, segment_of, with_tail
from luma_memory.pipeline.recall.sorting import sorted_order

# Rows outside the first segment, or obsolete in it, before all are packed into one.
_LOOSE_SHARE: Final = 0.05
_LOOSE_ROWS: Final = 64
_ABSENT: Final = -1
# Up to this many ids are compared one by one; more are sorted together with those of the rows.
_COMPARED_MAX: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The arranged rows of a search, and the positions of their values in a snapshot."""

    arrangement: Arrangement
    passage_vectors: Indices  # [n] number of the passage's vector; -1 for none
    window_vectors: Indices  # [w]
    passage_of: npt.NDArray[np.int32]  # [rows] the passage that a row is; -1 for none


Views: TypeAlias = "OrderedDict[tuple[Sequence[str], bool], View]"


@dataclass(frozen=True, eq=False)
class ScopeSnapshot:
    """All rows of a scope for one embedding model, as of a mark; see the module."""

    mark: ScopeMark
    read_at: int  # rows that had expired by then are not in `view`
    places: RowPlaces  # of all rows of all segments
    expiries: npt.NDArray[np.int64]
    superseded_from: npt.NDArray[np.int64]  # NEVER if nothing superseded the row's block
    vector_of: Indices  # [rows] number of the row's vector among all; -1 for none
    order: Indices  # current rows, as `row_order` returns them; others were replaced
    segments: Sequence[Segment]
    view: View  # for searches without filters or other options
    # Of the rows, where they are items.
    namespaces: RowNamespaces = field(default_factory=RowNamespaces)
    _views: Views = field(default_factory=OrderedDict)  # of namespaces, used last at the end

    @cached_property
    def next_expiry(self) -> int:
        """When the first row after `read_at` expires; NEVER if none does."""
        expiries = self.expiries[self.order]
        return int(expiries[expiries > self.read_at].min(initial=NEVER))

    @property
    def row_count(self) -> int:
        return len(self.places)

    @cached_property
    def size_bytes(self) -> int:
        columns = [*self.places.columns, self.expiries, self.superseded_from]
        columns += [self.vector_of, self.order]
        # Views of namespaces have as many rows as the main one together.
        views = 2 if self.namespaces.texts else 1
        return (
            sum(column.nbytes for column in columns)
            + sum(segment.size_bytes for segment in self.segments)
            + self.namespaces.size_bytes
            + views * _size_bytes(self.view)
        )

    def expired(self, until: int) -> bytes:
        """Ids of the blocks of rows that expire after `read_at`, until then at the latest."""
        expiries = self.expiries[self.order]
        rows = self.order[(expiries > self.read_at) & (expiries <= until)]
        ids = np.stack([self.places.high[rows], self.places.low[rows]], axis=1)
        return np.unique(ids, axis=0).astype(">u8").tobytes()

    @property
    def is_loose(self) -> bool:
        """Whether packing it is worthwhile."""
        base = self.segments[0].row_count if self.segments else 0
        loose = self.row_count - int(np.count_nonzero(self.order < base))
        return loose > _LOOSE_ROWS + _LOOSE_SHARE * base

    def similarities(self, question: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
        """Cosine of a unit vector with each vector; one NaN after the last. question: [d]."""
        counts = [len(segment.vectors) for segment in self.segments]
        stops = np.cumsum([0, *counts]).tolist()
        found = np.empty(stops[-1] + 1, dtype=np.float32)
        found[-1] = np.nan
        for segment, (start, stop) in zip(self.segments, pairwise(stops), strict=True):
            segment.similarities(question, found[start:stop])
        return found

    def posting(self, term: int, view: View) -> Posting:
        """The passages of the view that have the term."""
        rows, weights, start = [], [], 0
        for segment in self.segments:
            found, with_weights = segment.rows_with(term)
            rows.append(found + start if start else found)
            weights.append(with_weights)
            start += segment.row_count
        passages = view.passage_of[rows[0] if len(rows) == 1 else np.concatenate(rows)]
        of_each = weights[0] if len(weights) == 1 else np.concatenate(weights)
        order = np.argsort(passages, kind="stable")
        order = order[np.searchsorted(passages[order], 0) :]
        return Posting(passages[order].astype(np.intp), of_each[order])

    def at(self, mark: ScopeMark, read_at: int, changes: ScopeChanges) -> ScopeSnapshot:
        """The snapshot after these changes, for searches at this moment."""
        high, low = self.places.high[self.order], self.places.low[self.order]
        is_gone = contains(b"".join(changes.block_ids), high, low)
        # The log names blocks and items, and a snapshot may have rows of either alone.
        if not changes.rows.row_count and not is_gone.any():
            if self.read_at <= read_at < self.next_expiry:
                return self if mark == self.mark else replace(self, mark=mark)
            near = self.view.arrangement.session_rows
            return _made(replace(self, mark=mark, read_at=read_at), near)
        rows = changes.rows
        tail = _places(rows)
        kept = self.order[~is_gone]
        places = self.places.followed_by(tail)
        new = np.arange(self.row_count, self.row_count + len(tail))
        return _made(
            replace(
                self,
                mark=mark,
                read_at=read_at,
                places=places,
                expiries=np.concatenate([self.expiries, _int64(rows.expiries)]),
                superseded_from=np.concatenate(
                    [self.superseded_from, _int64(rows.superseded_from)]
                ),
                vector_of=np.concatenate([self.vector_of, self._numbered(tail)]),
                order=row_order(places, near=np.concatenate([kept, new])),
                segments=with_tail(self.segments, segment_of(rows)),
                namespaces=self.namespaces.followed_by(rows.namespaces),
            ),
            self.view.arrangement.session_rows,
        )

    def packed(self) -> ScopeSnapshot:
        """The same rows in one segment, without obsolete ones."""
        rows = np.sort(self.order)
        number = np.full(self.row_count, _ABSENT, dtype=np.intp)
        number[rows] = np.arange(len(rows))
        taken, start = [], 0
        for segment in self.segments:
            stop = start + segment.row_count
            own = rows[(rows >= start) & (rows < stop)] - start
            taken.append(segment.take(own, self.places.has_vector[start:stop]))
            start = stop
        places = self.places.take(rows)
        return _made(
            replace(
                self,
                places=places,
                expiries=self.expiries[rows],
                superseded_from=self.superseded_from[rows],
                vector_of=_numbered(places.has_vector, 0),
                order=number[self.order],
                segments=[merged(taken)],
                namespaces=self.namespaces.take(rows),
            ),
            number[self.view.arrangement.session_rows],
        )

    def seen(self, selection: Selection, matching: bytes | None) -> View:
        """The rows that take part in a search. matching: ids of blocks, 16 bytes each, that its
        filters select; None for all."""
        if matching is None and selection.is_current:
            if (namespace := selection.namespace) is None:
                return self.view
            return self._of_namespace(namespace)
        rows = self.order
        as_of = self.read_at if selection.as_of is None else microseconds(selection.as_of)
        takes_part = self.expiries[rows] > as_of
        if selection.as_of is not None:
            takes_part &= self.places.instants[rows] <= as_of
        if not selection.include_superseded:
            limit = NEVER - 1 if selection.as_of is None else as_of
            takes_part &= self.superseded_from[rows] > limit
        if matching is not None:
            takes_part &= contains(matching, self.places.high[rows], self.places.low[rows])
        if (namespace := selection.namespace) is not None:
            takes_part &= self.namespaces.selected(namespace, rows)
        return _view(self, rows[takes_part], self.view.arrangement.session_rows)

    def _of_namespace(self, selection: ItemSelection) -> View:
        """The rows of a namespace or below it; the views used last are kept."""
        key = (tuple(selection.prefix), selection.is_exact)
        # Used in one thread or several: a view that is lost in between is made again.
        found = self._views.pop(key, None)
        if found is None:
            rows = self.order[self._takes_part]
            is_selected = self.namespaces.selected(selection, rows)
            if is_selected.all():
                return self.view
            near = self.view.arrangement.session_rows
            found = _view(self, rows[is_selected], near)
        self._views[key] = found
        kept = 0
        for other in reversed([*self._views]):
            view = self._views.get(other)
            kept += 0 if view is None else 1 + len(view.arrangement.passages)
            if kept > max(len(self.view.arrangement.passages), 1 + len(found.arrangement.passages)):
                self._views.pop(other, None)
        return found

    @property
    def _takes_part(self) -> npt.NDArray[np.bool_]:
        """[len(order)] whether a row is in `view`."""
        found = self.expiries[self.order] > self.read_at
        found &= self.superseded_from[self.order] == NEVER
        return found

    def _numbered(self, tail: RowPlaces) -> Indices:
        return _numbered(tail.has_vector, sum(len(segment.vectors) for segment in self.segments))


def snapshot_of(pages: Sequence[ScopeRows], mark: ScopeMark, read_at: int) -> ScopeSnapshot:
    """A snapshot of rows as the store returns them."""
    places = reduce(RowPlaces.followed_by, map(_places, pages))
    empty = np.zeros(0, dtype=np.intp)
    return _made(
        ScopeSnapshot(
            mark=mark,
            read_at=read_at,
            places=places,
            expiries=np.concatenate([_int64(page.expiries) for page in pages]),
            superseded_from=np.concatenate([_int64(page.superseded_from) for page in pages]),
            vector_of=_numbered(places.has_vector, 0),
            order=row_order(places),
            segments=[merged([segment_of(page) for page in pages])],
            namespaces=reduce(
                RowNamespaces.followed_by, [page.namespaces for page in pages], RowNamespaces()
            ),
            view=View(arrange(places, empty), empty, empty, empty.astype(np.int32)),
        ),
        None,
    )


def contains(
    ids: bytes, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]
) -> npt.NDArray[np.bool_]:
    """[n] whether each id is one of `ids`, 16 bytes each. high, low: the halves of the n ids."""
    target_high, target_low = id_halves(ids)
    count = len(target_high)
    if count <= _COMPARED_MAX:
        found = np.zeros(len(high), dtype=bool)
        for one, other in zip(target_high, target_low, strict=True):
            found |= (high == one) & (low == other)
        return found
    # Sorted together, a requested id comes before the equal ones of the rows: the sort is stable.
    first, second = np.concatenate([target_high, high]), np.concatenate([target_low, low])
    order = sorted_order(~first, (~second,), near=np.arange(len(first)))
    first, second = first[order], second[order]
    differs = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    starts = np.flatnonzero(np.append(True, differs))
    sizes = np.diff(np.append(starts, len(order)))
    together = np.empty(len(order), dtype=bool)
    together[order] = np.repeat(order[starts] < count, sizes)
    return together[count:]


def _made(snapshot: ScopeSnapshot, near: Indices | None) -> ScopeSnapshot:
    """The snapshot with its view. near: rows in nearly the order of blocks in their sessions."""
    rows = snapshot.order[snapshot._takes_part]
    return replace(snapshot, view=_view(snapshot, rows, near), _views=OrderedDict())


def _view(snapshot: ScopeSnapshot, rows: Indices, near: Indices | None) -> View:
    arrangement = arrange(snapshot.places, rows, near=near)
    passage_of = np.full(snapshot.row_count, _ABSENT, dtype=np.int32)
    passage_of[arrangement.passages] = np.arange(len(arrangement.passages), dtype=np.int32)
    return View(
        arrangement,
        snapshot.vector_of[arrangement.passages],
        snapshot.vector_of[arrangement.windows],
        passage_of,
    )


def _numbered(has_vector: npt.NDArray[np.bool_], start: int) -> Indices:
    """[n] numbers of vectors from `start` on; -1 for a row without one."""
    numbers: Indices = np.where(has_vector, start + np.cumsum(has_vector) - 1, _ABSENT)
    return numbers


def _places(rows: ScopeRows) -> RowPlaces:
    high, low = id_halves(rows.block_ids)
    return RowPlaces(
        high=high,
        low=low,
        ordinals=np.frombuffer(rows.ordinals, dtype=np.int32),
        sessions=_int64(rows.sessions),
        instants=_int64(rows.instants),
        speakers=_int64(rows.speakers),
        has_vector=np.frombuffer(rows.has_vector, dtype=bool),
    )


def _int64(column: array[int]) -> npt.NDArray[np.int64]:
    return np.frombuffer(column, dtype=np.int64)


def _size_bytes(view: View) -> int:
    places = view.arrangement
    parts = (view, places, places.groups, places.neighbors, places.coverage)
    arrays = [value for part in parts for value in _values(part)]
    return sum(value.nbytes for value in arrays if isinstance(value, np.ndarray))


def _values(part: Any) -> Sequence[Any]:
    if is_dataclass(part):
        return [getattr(part, field.name) for field in fields(part)]
    return list(vars(part).values())
