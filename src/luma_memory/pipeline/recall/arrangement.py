"""The order of a scope's rows: what of a layout no question changes.

Blocks are numbered newest first, their passages lie together, and each block has its place in its
session. Made once for a scan, and kept with a snapshot until the scope changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import WINDOW_ORDINAL
from luma_memory.pipeline.recall.neighbors import Neighbors, in_sessions

# A window holds the block it ends with and the turns before it.
WINDOW_TURNS: Final = 3
ROW_ID: Final = np.dtype("V16")
Indices: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class RowPlaces:
    """Where each of n rows belongs; all columns in one order."""

    ids: npt.NDArray[np.void]  # ROW_ID, of the rows' blocks
    ordinals: npt.NDArray[np.int32]  # passage number within its block, or WINDOW_ORDINAL
    sessions: npt.NDArray[np.int64]  # 0 is none
    instants: npt.NDArray[np.int64]
    speakers: npt.NDArray[np.int64]
    has_vector: npt.NDArray[np.bool_]

    def take(self, rows: Indices) -> RowPlaces:
        """Some of the rows."""
        return RowPlaces(
            self.ids[rows],
            self.ordinals[rows],
            self.sessions[rows],
            self.instants[rows],
            self.speakers[rows],
            self.has_vector[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """n passages of m blocks and w windows, by their numbers among the rows."""

    passages: Indices  # [n] rows, by block and ordinal
    ordinals: npt.NDArray[np.int32]  # [n]
    block: Indices  # [n] numbers of blocks, newest first
    ids: npt.NDArray[np.void]  # [m]
    instants: npt.NDArray[np.int64]  # [m]
    speakers: npt.NDArray[np.int64]  # [m]
    neighbors: Neighbors
    windows: Indices  # [w] rows
    covered: Indices  # [w, WINDOW_TURNS] blocks of each window, the last first; -1 for none


def arrange(rows: RowPlaces) -> Arrangement:
    """Number the blocks, order their passages, find each block's place in its session."""
    is_passage = rows.ordinals != WINDOW_ORDINAL
    distinct, block = _number_blocks(rows.ids)
    block, distinct = _without_windows_alone(block, distinct, is_passage)
    passages = _in_order(block, rows.ordinals, is_passage)
    first = _first_row(block, passages, len(distinct))
    instants = rows.instants[first]
    neighbors = in_sessions(rows.sessions[first], instants)
    windows = _in_order(block, rows.ordinals, ~is_passage & (block >= 0) & rows.has_vector)
    return Arrangement(
        passages=passages,
        ordinals=rows.ordinals[passages],
        block=block[passages],
        ids=distinct,
        instants=instants,
        speakers=rows.speakers[first],
        neighbors=neighbors,
        windows=windows,
        covered=_covered(block[windows], neighbors),
    )


def _covered(ends: Indices, neighbors: Neighbors) -> Indices:
    """[w, WINDOW_TURNS] the blocks of each window, the last first; -1 where a session begins."""
    previous = np.append(neighbors.previous, -1)  # of -1: -1
    columns = [ends]
    for _ in range(WINDOW_TURNS - 1):
        columns.append(previous[columns[-1]])
    return np.stack(columns, axis=1)


def _number_blocks(ids: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], Indices]:
    """Distinct ids newest first (UUIDv7 rises with time), and each row's block number."""
    # As two big-endian integers: sorting raw bytes is ten times slower.
    halves = ids.view(">u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))[::-1]
    ordered = halves[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    block = np.empty(len(order), dtype=np.intp)
    block[order] = np.cumsum(is_first) - 1
    return ids[order[is_first]], block


def _without_windows_alone(
    block: Indices, distinct: npt.NDArray[np.void], is_passage: npt.NDArray[np.bool_]
) -> tuple[Indices, npt.NDArray[np.void]]:
    """Numbers for blocks that have a passage; -1 for a window whose block has none (any more)."""
    has_passage = np.zeros(len(distinct), dtype=bool)
    has_passage[block[is_passage]] = True
    if has_passage.all():
        return block, distinct
    renumbered = np.where(has_passage, np.cumsum(has_passage) - 1, -1)
    return renumbered[block], distinct[has_passage]


def _in_order(
    block: Indices, ordinals: npt.NDArray[np.int32], wanted: npt.NDArray[np.bool_]
) -> Indices:
    """Rows by block and ordinal: wherever the database keeps them, sums come out the same."""
    rows = np.flatnonzero(wanted)
    # One number a row: sorting by two keys takes three times as long.
    key = (block[rows].astype(np.int64) << 32) + ordinals[rows]
    return rows[np.argsort(key, kind="stable")]


def _first_row(block: Indices, passages: Indices, count: int) -> Indices:
    """[m] a row of each block: what is the same for all of its passages is read there."""
    first = np.zeros(count, dtype=np.intp)
    first[block[passages]] = passages
    return first
