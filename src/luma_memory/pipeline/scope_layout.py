"""From the raw columns of a scope's scan to what fusion reads: blocks and BM25."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import ScopeScan
from luma_memory.pipeline.fusion import Indices, ScopeScores
from luma_memory.pipeline.terms import QueryTerm, idf

_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class ScopeLayout:
    """Blocks numbered newest first: equal standing goes to the newer one."""

    scores: ScopeScores
    _ids: npt.NDArray[np.void]  # [m] by block number

    def block_id(self, number: int) -> UUID:
        return UUID(bytes=self._ids[number].tobytes())


def lay_out(scan: ScopeScan, terms: Sequence[QueryTerm]) -> ScopeLayout:
    """Number the blocks and sum up BM25.

    terms: those whose weights the scan holds, in the same order.
    """
    ids = np.frombuffer(scan.block_ids, dtype=f"V{_ID_BYTES}")
    distinct, block = _number_blocks(ids)
    scores = ScopeScores(
        dense=np.frombuffer(scan.dense, dtype=np.float32),
        lexical=_bm25(scan, terms),
        block=block,
    )
    return ScopeLayout(scores, distinct)


def _bm25(scan: ScopeScan, terms: Sequence[QueryTerm]) -> npt.NDArray[np.float32]:
    """Each passage's score; document frequencies are counted in the columns themselves."""
    total = np.zeros(scan.passage_count, dtype=np.float32)
    for term, column in zip(terms, scan.term_weights, strict=True):
        weights = np.frombuffer(column, dtype=np.float32)
        frequency = int(np.count_nonzero(weights))
        total += weights * np.float32(term.frequency * idf(frequency, scan.passage_count))
    return total


def _number_blocks(ids: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], Indices]:
    """Distinct ids newest first (UUIDv7 rises with time), and each passage's block number."""
    # As two big-endian integers: sorting raw bytes is ten times slower.
    halves = ids.view(">u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))[::-1]
    ordered = halves[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    block = np.empty(len(order), dtype=np.intp)
    block[order] = np.cumsum(is_first) - 1
    return ids[order[is_first]], block
