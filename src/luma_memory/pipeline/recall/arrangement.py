"""The order of a scope's rows: the part of a layout that does not depend on the question.

Blocks are numbered newest first, their passages are adjacent, and each block has its position in
its session. Computed per scan; a snapshot keeps it until rows change, and sorts only new rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import WINDOW_ORDINAL
from luma_memory.pipeline.recall.groups import Floats, Indices, PassageGroups
from luma_memory.pipeline.recall.neighbors import Neighbors, in_sessions
from luma_memory.pipeline.recall.sorting import sorted_order

# A window consists of the block it ends with and the turns before it.
WINDOW_TURNS: Final = 3
_ID_DTYPE: Final = np.dtype(">u8")  # halves of an id as it is sent


@dataclass(frozen=True, slots=True, eq=False)
class RowPlaces:
    """The keys of n rows; all columns in one order."""

    high: npt.NDArray[np.uint64]  # first half of the id of the row's block
    low: npt.NDArray[np.uint64]  # second half
    ordinals: npt.NDArray[np.int32]  # passage number within its block, or WINDOW_ORDINAL
    sessions: npt.NDArray[np.int64]  # 0 is none
    instants: npt.NDArray[np.int64]
    speakers: npt.NDArray[np.int64]
    has_vector: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ordinals)

    def take(self, rows: Indices) -> RowPlaces:
        """Some of the rows."""
        return self._each(lambda column: column[rows])

    def followed_by(self, other: RowPlaces) -> RowPlaces:
        """These rows, then the other ones."""
        columns = iter(other.columns)
        return self._each(lambda column: np.concatenate([column, next(columns)]))

    def _each(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> RowPlaces:
        return RowPlaces(*map(change, self.columns))

    @property
    def columns(self) -> Sequence[npt.NDArray[Any]]:
        return (
            self.high,
            self.low,
            self.ordinals,
            self.sessions,
            self.instants,
            self.speakers,
            self.has_vector,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Which of m blocks are in which windows."""

    windows: Indices  # [turns, m] windows that contain the block; the number of windows for none
    shares: Floats  # [m] of each in their mean
    alone: Indices  # the blocks in no window


@dataclass(frozen=True, eq=False)
class Arrangement:
    """n passages of m blocks and w windows, by their numbers among the rows."""

    passages: Indices  # [n] rows, by block and ordinal
    ordinals: npt.NDArray[np.int32]  # [n]
    groups: PassageGroups  # of the n passages
    high: npt.NDArray[np.uint64]  # [m] first halves of the ids, never rising
    low: npt.NDArray[np.uint64]  # [m] second halves
    instants: npt.NDArray[np.int64]  # [m]
    speakers: npt.NDArray[np.int64]  # [m]
    neighbors: Neighbors
    windows: Indices  # [w] rows
    covered: Indices  # [w, WINDOW_TURNS] blocks of each window, the last first; -1 for none
    coverage: Coverage

    @property
    def block(self) -> Indices:
        """[n] numbers of blocks, newest first."""
        return self.groups.block

    @cached_property
    def rising_high(self) -> npt.NDArray[np.uint64]:
        """[m] the complement of `high`: in the order that a binary search needs."""
        return ~self.high

    @cached_property
    def known_speakers(self) -> npt.NDArray[np.int64]:
        """Distinct speakers: few, even in a large scope."""
        return np.unique(self.speakers)

    @cached_property
    def session_rows(self) -> Indices:
        """[m] the first row of each block, by session and time; see `near` of `arrange`."""
        return self.passages[self.groups.starts[self.neighbors.order]]


def id_halves(ids: bytes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Concatenated ids of 16 bytes, as numbers with the same order."""
    halves = np.frombuffer(ids, dtype=_ID_DTYPE).reshape(-1, 2).astype(np.uint64)
    return np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])


def row_order(rows: RowPlaces, *, near: Indices | None = None) -> Indices:
    """Rows by block, newest first (UUIDv7 rises with time), and ordinal.

    near: all or some of the rows in nearly this order; only those are returned.
    """
    near = np.arange(len(rows)) if near is None else near
    return sorted_order(~rows.high, (~rows.low, rows.ordinals), near=near)


def arrange(
    rows: RowPlaces, order: Indices | None = None, *, near: Indices | None = None
) -> Arrangement:
    """Number the blocks, order their passages, find each block's place in its session.

    order: the rows that take part, as `row_order` returns them; None for all. near: rows that an
    earlier arrangement had as `session_rows`.
    """
    order = row_order(rows) if order is None else order
    is_passage = rows.ordinals[order] != WINDOW_ORDINAL
    passages = order[is_passage]
    high, low = rows.high[passages], rows.low[passages]
    is_first = np.ones(len(passages), dtype=bool)
    is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    first = passages[is_first]
    instants, sessions = rows.instants[first], rows.sessions[first]
    neighbors = in_sessions(sessions, instants, near=_numbers_near(near, first, len(rows)))
    groups = PassageGroups(np.cumsum(is_first) - 1)
    begins = np.zeros(len(order), dtype=bool)
    begins[is_passage] = is_first
    windows, ends = _windows(rows, order, begins, first)
    covered = _covered(ends, neighbors)
    return Arrangement(
        passages=passages,
        ordinals=rows.ordinals[passages],
        groups=groups,
        high=high[is_first],
        low=low[is_first],
        instants=instants,
        speakers=rows.speakers[first],
        neighbors=neighbors,
        windows=windows,
        covered=covered,
        coverage=coverage_of(covered, groups.count),
    )


def coverage_of(covered: Indices, block_count: int) -> Coverage:
    """covered: [w, turns] blocks of each window, -1 for none. No two windows have the same block at
    the same turn: each ends with a block of its own."""
    count, turns = covered.shape
    windows = np.full((turns, block_count + 1), count, dtype=np.intp)
    for turn, blocks in zip(windows, covered.T, strict=True):
        turn[blocks] = np.arange(count)
    windows = windows[:, :block_count]  # the last is of those without a block
    sizes = np.count_nonzero(windows < count, axis=0)
    return Coverage(windows, 1.0 / np.maximum(sizes, 1), np.flatnonzero(sizes == 0))


def _numbers_near(near: Indices | None, first: Indices, row_count: int) -> Indices | None:
    """Numbers of all blocks: those of earlier rows in the earlier order, then the new ones."""
    if near is None:
        return None
    number = np.full(row_count, -1, dtype=np.intp)
    number[first] = np.arange(len(first))
    earlier = number[near]
    earlier = earlier[earlier >= 0]
    is_new = np.ones(len(first), dtype=bool)
    is_new[earlier] = False
    return np.concatenate([earlier, np.flatnonzero(is_new)])


def _windows(
    rows: RowPlaces, order: Indices, begins: npt.NDArray[np.bool_], first: Indices
) -> tuple[Indices, Indices]:
    """Rows of windows that have a vector, and the block that each ends with. A window whose block
    has no passage (any more) is omitted.

    begins: whether a row of `order` is the first passage of a block. Its windows come right before.
    """
    places = np.flatnonzero((rows.ordinals[order] == WINDOW_ORDINAL) & rows.has_vector[order])
    windows = order[places]
    ends = np.cumsum(begins)[places]
    exists = ends < len(first)
    windows, ends = windows[exists], ends[exists]
    last = first[ends]
    same = (rows.high[last] == rows.high[windows]) & (rows.low[last] == rows.low[windows])
    return windows[same], ends[same]


def _covered(ends: Indices, neighbors: Neighbors) -> Indices:
    """[w, WINDOW_TURNS] the blocks of each window, the last first; -1 where a session begins."""
    previous = np.append(neighbors.previous, -1)  # of -1: -1
    columns = [ends]
    for _ in range(WINDOW_TURNS - 1):
        columns.append(previous[columns[-1]])
    return np.stack(columns, axis=1)
