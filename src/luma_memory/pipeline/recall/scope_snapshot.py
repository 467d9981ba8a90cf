"""A copy of one scope's rows in memory, scored without the database.

Immutable: a change makes another snapshot, so that readers of this one take no lock. Columns are
copied with each change; vectors and terms lie in segments that snapshots share, and rows that no
longer hold stay in them until they are packed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import NEVER, ScopeChanges, ScopeMark, ScopeRows
from luma_memory.pipeline.recall.arrangement import ROW_ID, Arrangement, Indices, RowPlaces, arrange
from luma_memory.pipeline.recall.events import Weights

# Rows beside the first segment, or without meaning in it, before all are packed into one.
_LOOSE_SHARE: Final = 0.05
_LOOSE_ROWS: Final = 64
# What an arrangement takes beside the columns: about so many numbers of 8 bytes a row.
_ARRANGED_NUMBERS: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Vectors and terms of rows that came together; rows are numbered within it."""

    row_count: int
    vectors: npt.NDArray[np.float32]  # [v, dimension]
    vector_rows: Indices  # [v] the row of each
    terms: npt.NDArray[np.int32]  # [t] rising
    term_rows: npt.NDArray[np.int32]  # [t]
    term_weights: Weights  # [t]

    def score(self, vector: npt.NDArray[np.float32], dense: npt.NDArray[np.float32]) -> None:
        """Write the cosine of each row that has a vector."""
        if len(self.vector_rows):
            dense[self.vector_rows] = self.vectors @ vector

    def weigh(self, term: int, weights: Weights) -> None:
        """Write a term's weight in each row that has it."""
        # Of the column's own type: another would convert the whole of it first.
        wanted = np.array([term, term + 1], dtype=self.terms.dtype)
        start, stop = np.searchsorted(self.terms, wanted)
        weights[self.term_rows[start:stop]] = self.term_weights[start:stop]

    def take(self, rows: Indices) -> Segment:
        """Some of the rows, numbered anew in their order."""
        number = np.full(self.row_count, -1, dtype=np.int32)
        number[rows] = np.arange(len(rows), dtype=np.int32)
        has_vector = number[self.vector_rows] >= 0
        has_term = number[self.term_rows] >= 0
        return Segment(
            row_count=len(rows),
            vectors=self.vectors[has_vector],
            vector_rows=number[self.vector_rows[has_vector]].astype(np.intp),
            terms=self.terms[has_term],
            term_rows=number[self.term_rows[has_term]],
            term_weights=self.term_weights[has_term],
        )

    @property
    def size_bytes(self) -> int:
        return sum(
            column.nbytes
            for column in (
                self.vectors,
                self.vector_rows,
                self.terms,
                self.term_rows,
                self.term_weights,
            )
        )


@dataclass(frozen=True, eq=False)
class ScopeSnapshot:
    """All rows of a scope for one embedding model, as of a mark; see the module."""

    mark: ScopeMark
    places: RowPlaces  # of all rows of all segments
    expiries: npt.NDArray[np.int64]
    holds: npt.NDArray[np.bool_]  # False: the row was replaced
    segments: Sequence[Segment]
    read_at: int  # rows that had expired by then are left out

    @cached_property
    def arrangement(self) -> Arrangement:
        """Of the rows that hold and have not expired; its row numbers are those of `places`."""
        rows = np.flatnonzero(self.holds & (self.expiries > self.read_at))
        found = arrange(self.places.take(rows))
        return Arrangement(
            passages=rows[found.passages],
            ordinals=found.ordinals,
            block=found.block,
            ids=found.ids,
            instants=found.instants,
            speakers=found.speakers,
            neighbors=found.neighbors,
            windows=rows[found.windows],
            covered=found.covered,
        )

    @cached_property
    def next_expiry(self) -> int:
        """When the first row after `read_at` expires; NEVER if none does."""
        ahead = self.expiries[self.holds & (self.expiries > self.read_at)]
        return int(ahead.min(initial=NEVER))

    @property
    def row_count(self) -> int:
        return len(self.holds)

    @property
    def size_bytes(self) -> int:
        columns = (self.places.ids.itemsize + 4 + 8 * 4 + 2 + 8 * _ARRANGED_NUMBERS) * len(
            self.holds
        )
        return columns + sum(segment.size_bytes for segment in self.segments)

    def dense(self, vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[rows] cosine of a unit vector with each; NaN where none is stored."""
        found = np.full(self.row_count, np.nan, dtype=np.float32)
        for start, segment in self._with_starts():
            segment.score(vector, found[start : start + segment.row_count])
        return found

    def weights(self, term: int) -> Weights:
        """[rows] the term's weight in each; 0 where it is absent."""
        found = np.zeros(self.row_count, dtype=np.float32)
        for start, segment in self._with_starts():
            segment.weigh(term, found[start : start + segment.row_count])
        return found

    def at(self, mark: ScopeMark, read_at: int, changes: ScopeChanges | None) -> ScopeSnapshot:
        """The snapshot after these changes, laid out for this moment."""
        if changes is None or not changes.block_ids:
            if mark == self.mark and self.read_at <= read_at < self.next_expiry:
                return self
            return ScopeSnapshot(
                mark, self.places, self.expiries, self.holds, self.segments, read_at
            )
        holds = self.holds & ~_is_of(self.places.ids, changes.block_ids)
        tail = snapshot_of([changes.rows], mark, read_at)
        grown = ScopeSnapshot(
            mark,
            places=_joined([self.places, tail.places]),
            expiries=np.concatenate([self.expiries, tail.expiries]),
            holds=np.concatenate([holds, tail.holds]),
            segments=[*self.segments, *tail.segments],
            read_at=read_at,
        )
        first = self.segments[0].row_count if self.segments else 0
        loose = grown.row_count - int(np.count_nonzero(grown.holds[:first]))
        return grown.packed() if loose > _LOOSE_ROWS + _LOOSE_SHARE * first else grown

    def packed(self) -> ScopeSnapshot:
        """The same rows in one segment, without those that no longer hold."""
        rows = np.flatnonzero(self.holds)
        taken = [
            segment.take(np.flatnonzero(self.holds[start : start + segment.row_count]))
            for start, segment in self._with_starts()
        ]
        return ScopeSnapshot(
            self.mark,
            places=self.places.take(rows),
            expiries=self.expiries[rows],
            holds=np.ones(len(rows), dtype=bool),
            segments=[_merged(taken)],
            read_at=self.read_at,
        )

    def _with_starts(self) -> Sequence[tuple[int, Segment]]:
        starts, at = [], 0
        for segment in self.segments:
            starts.append((at, segment))
            at += segment.row_count
        return starts


def snapshot_of(pages: Sequence[ScopeRows], mark: ScopeMark, read_at: int) -> ScopeSnapshot:
    """A snapshot of rows as the store returns them."""
    places = _joined([_places(page) for page in pages])
    return ScopeSnapshot(
        mark,
        places=places,
        expiries=np.concatenate([np.frombuffer(page.expiries, dtype=np.int64) for page in pages]),
        holds=np.ones(len(places.ids), dtype=bool),
        segments=[_merged([_segment(page) for page in pages])],
        read_at=read_at,
    )


def _places(rows: ScopeRows) -> RowPlaces:
    return RowPlaces(
        ids=np.frombuffer(rows.block_ids, dtype=ROW_ID),
        ordinals=np.frombuffer(rows.ordinals, dtype=np.int32),
        sessions=np.frombuffer(rows.sessions, dtype=np.int64),
        instants=np.frombuffer(rows.instants, dtype=np.int64),
        speakers=np.frombuffer(rows.speakers, dtype=np.int64),
        has_vector=np.frombuffer(rows.has_vector, dtype=bool),
    )


def _segment(rows: ScopeRows) -> Segment:
    count = rows.row_count
    vector_rows = np.flatnonzero(np.frombuffer(rows.has_vector, dtype=bool))
    vectors = np.frombuffer(rows.vectors, dtype=np.float32)
    term_rows = np.repeat(
        np.arange(count, dtype=np.int32), np.frombuffer(rows.term_counts, dtype=np.int32)
    )
    terms = np.frombuffer(rows.term_indices, dtype=np.int32)
    order = np.argsort(terms, kind="stable")
    return Segment(
        row_count=count,
        vectors=vectors.reshape(len(vector_rows), -1) if len(vector_rows) else vectors[:0, None],
        vector_rows=vector_rows,
        terms=terms[order],
        term_rows=term_rows[order],
        term_weights=np.frombuffer(rows.term_weights, dtype=np.float32)[order],
    )


def _merged(segments: Sequence[Segment]) -> Segment:
    if len(segments) == 1:
        return segments[0]
    starts = np.cumsum([0, *(segment.row_count for segment in segments)])
    pairs = list(zip(starts, segments, strict=False))
    terms = np.concatenate([segment.terms for segment in segments])
    order = np.argsort(terms, kind="stable")
    term_rows = np.concatenate([s.term_rows + np.int32(at) for at, s in pairs])
    with_vectors = [s.vectors for s in segments if len(s.vector_rows)]
    return Segment(
        row_count=int(starts[-1]),
        vectors=np.concatenate(with_vectors) if with_vectors else segments[0].vectors,
        vector_rows=np.concatenate([s.vector_rows + at for at, s in pairs]).astype(np.intp),
        terms=terms[order],
        term_rows=term_rows[order],
        term_weights=np.concatenate([s.term_weights for s in segments])[order],
    )


def _joined(parts: Sequence[RowPlaces]) -> RowPlaces:
    if len(parts) == 1:
        return parts[0]
    return RowPlaces(
        ids=np.concatenate([part.ids for part in parts]),
        ordinals=np.concatenate([part.ordinals for part in parts]),
        sessions=np.concatenate([part.sessions for part in parts]),
        instants=np.concatenate([part.instants for part in parts]),
        speakers=np.concatenate([part.speakers for part in parts]),
        has_vector=np.concatenate([part.has_vector for part in parts]),
    )


def _is_of(ids: npt.NDArray[np.void], block_ids: frozenset[bytes]) -> npt.NDArray[np.bool_]:
    """[n] whether each row is of one of the blocks."""
    halves = ids.view(">u8").reshape(-1, 2)
    firsts = np.array([int.from_bytes(block_id[:8]) for block_id in block_ids], dtype=np.uint64)
    found = np.isin(halves[:, 0].astype(np.uint64), firsts)
    for row in np.flatnonzero(found):
        found[row] = ids[row].tobytes() in block_ids
    return found
