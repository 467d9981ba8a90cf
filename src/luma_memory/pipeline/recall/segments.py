"""Vectors and terms of a snapshot's rows, in segments shared by snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numkong
import numpy as np
import numpy.typing as npt

from luma_memory.concurrency.cores import usable_cores
from luma_memory.domain.search import ScopeRows
from luma_memory.pipeline.recall.groups import Indices

# One core does not use all of the memory's speed: two need 0.6 of the time for 150,000 vectors. For
# 15,000, which caches hold, handing over takes as long as it saves.
THREADS_MAX: Final = 4
VECTORS_A_THREAD: Final = 50_000
# Taken at once: a tenth of a millisecond's work.
PART_VECTORS: Final = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Rows added together: v vectors, and the terms of the rows, by term."""

    row_count: int
    vectors: npt.NDArray[np.float16]  # [v, dimension] of the rows that have one, in their order
    terms: npt.NDArray[np.int32]  # [t] distinct, rising
    starts: npt.NDArray[np.int64]  # [t+1] where each term's rows begin
    rows: npt.NDArray[np.int32]  # [p] numbers within the segment, by term
    weights: npt.NDArray[np.float32]  # [p]

    def similarities(self, question: npt.NDArray[np.float16], out: npt.NDArray[np.float32]) -> None:
        """Write the dot product with each vector, in 32 bits. question: [dimension]; out: [v].

        NumPy has no kernel for half precision, and single precision takes twice the memory, whose
        speed limits a large scope's product. Of many vectors each thread takes parts, one after the
        other, so that none waits for a thread whose core does something else.
        """
        count = len(self.vectors)
        threads = min(usable_cores(), THREADS_MAX, count // VECTORS_A_THREAD) or 1
        size = count if threads == 1 else PART_VECTORS
        parts = iter([slice(start, start + size) for start in range(0, count, size or 1)])

        def multiply() -> None:
            for part in parts:  # shared by the threads: each part is taken once
                _multiply(question, self.vectors[part], out[part])

        others = [_threads().submit(multiply) for _ in range(threads - 1)]
        multiply()
        for other in others:
            if not other.cancel():
                other.result()

    def rows_with(self, term: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Rows that have the term, and its weight in each."""
        place = int(np.searchsorted(self.terms, np.int32(term)))
        if place == len(self.terms) or self.terms[place] != term:
            return self.rows[:0], self.weights[:0]
        start, stop = self.starts[place], self.starts[place + 1]
        return self.rows[start:stop], self.weights[start:stop]

    def take(self, rows: Indices, has_vector: npt.NDArray[np.bool_]) -> Segment:
        """Some of the rows, renumbered in their order. has_vector: of all rows."""
        number = np.full(self.row_count, -1, dtype=np.int32)
        number[rows] = np.arange(len(rows), dtype=np.int32)
        renumbered = number[self.rows]
        stays = renumbered >= 0
        return _by_term(
            len(rows),
            self.vectors[number[has_vector] >= 0],
            self._term_of_each()[stays],
            renumbered[stays],
            self.weights[stays],
        )

    @property
    def size_bytes(self) -> int:
        columns = (self.vectors, self.terms, self.starts, self.rows, self.weights)
        return sum(column.nbytes for column in columns)

    def _term_of_each(self) -> npt.NDArray[np.int32]:
        return np.repeat(self.terms, np.diff(self.starts))


def segment_of(rows: ScopeRows) -> Segment:
    """A segment of rows as the store returns them."""
    count = rows.has_vector.count(1)
    counts = np.frombuffer(rows.term_counts, dtype=np.int32)
    vectors = np.frombuffer(rows.vectors, dtype=np.float16)
    return _by_term(
        rows.row_count,
        vectors.reshape(count, -1) if count else vectors.reshape(0, 0),
        np.frombuffer(rows.term_indices, dtype=np.int32),
        np.repeat(np.arange(rows.row_count, dtype=np.int32), counts),
        np.frombuffer(rows.term_weights, dtype=np.float32),
    )


def merged(segments: Sequence[Segment]) -> Segment:
    """One segment of all rows, one after the other."""
    if len(segments) == 1:
        return segments[0]
    starts = np.cumsum([0, *(segment.row_count for segment in segments)])
    with_vectors = [segment.vectors for segment in segments if len(segment.vectors)]
    return _by_term(
        int(starts[-1]),
        np.concatenate(with_vectors) if with_vectors else segments[0].vectors,
        np.concatenate([segment._term_of_each() for segment in segments]),
        np.concatenate(
            [s.rows + np.int32(at) for at, s in zip(starts[:-1], segments, strict=True)]
        ),
        np.concatenate([segment.weights for segment in segments]),
    )


def with_tail(segments: Sequence[Segment], tail: Segment) -> Sequence[Segment]:
    """The segments and one more. Small ones are merged, so that there are few: each after the first
    has at least twice the rows of the next."""
    if not tail.row_count:
        return segments
    base, *others = [*segments, tail]
    while len(others) > 1 and others[-2].row_count < 2 * others[-1].row_count:
        others[-2:] = [merged(others[-2:])]
    return [base, *others]


def _by_term(
    row_count: int,
    vectors: npt.NDArray[np.float16],
    terms: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
) -> Segment:
    """terms, rows, weights: one entry for each term of each row, rows rising within a term."""
    order = np.argsort(terms, kind="stable")
    ordered = terms[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)])
    return Segment(
        row_count=row_count,
        vectors=vectors,
        terms=ordered[begins],
        starts=np.append(begins, len(ordered)),
        rows=rows[order],
        weights=weights[order],
    )


def _multiply(
    question: npt.NDArray[np.float16],
    vectors: npt.NDArray[np.float16],
    out: npt.NDArray[np.float32],
) -> None:
    out[:] = np.asarray(numkong.cdist(question[np.newaxis], vectors, metric="dot"))[0]


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS_MAX - 1, thread_name_prefix="product")
