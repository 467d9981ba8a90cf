"""From the raw columns of a scope's scan to what fusion reads."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import WINDOW_ORDINAL, ScopeScan, TimeSpan
from luma_memory.pipeline.recall.coverage import covered_share
from luma_memory.pipeline.recall.events import QueryEvent, Weights, fitting
from luma_memory.pipeline.recall.fusion import Indices, NeighbourScores, ScopeScores
from luma_memory.pipeline.recall.neighbours import Neighbours, in_sessions, with_neighbours
from luma_memory.pipeline.recall.speakers import meant
from luma_memory.pipeline.text.terms import QueryTerm, idf

# A window holds the block it ends with and the turns before it.
WINDOW_TURNS: Final = 3
# Shares of `Additions.time`: for a day, a week, anything longer.
_WEIGHT_BY_LENGTH: Final = (
    (timedelta(days=1, hours=2), 4.0),
    (timedelta(days=8), 2.0),
    (timedelta.max, 1.0),
)
Buffer: TypeAlias = "array[float]"
_ID_BYTES: Final = 16
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL's


@dataclass(frozen=True, slots=True)
class ScopeLayout:
    """Blocks numbered newest first: of equal z-scores the newer one comes first."""

    scores: ScopeScores
    ordinals: npt.NDArray[np.int32]  # [n] of the passages
    coverage: npt.NDArray[np.float32]  # [n] 0..1, what share of the question's words each has
    unknown: float  # 0..1, share of the things the question names that no passage has
    _ids: npt.NDArray[np.void]  # [m] by block number
    is_about_time_only: bool = False  # the question names a time and nothing else

    def block_id(self, number: int) -> UUID:
        return UUID(bytes=self._ids[number].tobytes())

    def numbers(self, block_ids: Iterable[UUID]) -> Mapping[UUID, int]:
        """The numbers of those of the blocks that are here."""
        wanted = {block_id.bytes: block_id for block_id in block_ids}
        halves = self._ids.view(">u8").reshape(-1, 2)[:, 0].astype(np.uint64)
        firsts = np.array([int.from_bytes(key[:8]) for key in wanted], dtype=np.uint64)
        near = ((int(n), self._ids[n].tobytes()) for n in np.flatnonzero(np.isin(halves, firsts)))
        return {wanted[key]: number for number, key in near if key in wanted}

    def is_proven_by_time(self, number: int) -> bool:
        """Whether its time alone makes the block relevant: "What did I do yesterday?"."""
        scores = self.scores.neighbour_scores
        return self.is_about_time_only and scores is not None and bool(scores.timely[number] > 0)

    def passages(self, number: int) -> slice:
        """Where a block's passages stand: they lie together, by block number."""
        start, stop = np.searchsorted(self.scores.block, [number, number + 1])
        return slice(int(start), int(stop))


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What a question asks for beside its meaning and its words."""

    named: Sequence[int] = ()  # keys of names in the question
    own: Sequence[int] = ()  # keys of the user's own names
    spans: Sequence[TimeSpan] = ()
    events: Sequence[QueryEvent] = ()


def lay_out(
    scan: ScopeScan, terms: Sequence[QueryTerm], scoring: ScoringRequest | None = None
) -> ScopeLayout:
    """Number the blocks, sum up BM25, find each block's place in its session.

    terms: those whose weights the scan holds, in the same order.
    """
    scoring = scoring or ScoringRequest()
    ordinals = np.frombuffer(scan.ordinals, dtype=np.int32)
    is_passage = ordinals != WINDOW_ORDINAL
    ids = np.frombuffer(scan.block_ids, dtype=f"V{_ID_BYTES}")
    distinct, block = _number_blocks(ids)
    block, distinct = _without_windows_alone(block, distinct, is_passage)
    passages = _in_order(block, ordinals, is_passage)
    first = _first_row(block, passages, len(distinct))
    sessions = np.frombuffer(scan.sessions, dtype=np.int64)[first]
    instants = np.frombuffer(scan.instants, dtype=np.int64)[first]
    neighbours = in_sessions(sessions, instants)
    dense = np.frombuffer(scan.dense, dtype=np.float32)
    words = list(_words(scan, terms, passages))
    own, shared = _bm25(words, block[passages], neighbours)
    coverage, unknown = covered_share(words, len(passages))
    windows = _in_order(block, ordinals, ~is_passage & (block >= 0) & ~np.isnan(dense))
    neighbour_scores = NeighbourScores(
        session=neighbours.session,
        windows=dense[windows],
        covered=_covered(block[windows], neighbours),
        meant=meant(
            np.frombuffer(scan.speakers, dtype=np.int64)[first],
            named=scoring.named,
            own=scoring.own,
        ),
        timely=np.maximum(
            _timely(instants, scoring.spans),
            fitting(scoring.events, words, block[passages], instants),
        ),
    )
    scores = ScopeScores(
        dense=dense[passages],
        lexical=shared,
        block=block[passages],
        own_lexical=own,
        neighbour_scores=neighbour_scores,
    )
    return ScopeLayout(
        scores,
        ordinals[passages],
        coverage,
        unknown,
        distinct,
        is_about_time_only=any(span.is_whole_question for span in scoring.spans),
    )


def _bm25(
    words: Sequence[tuple[QueryTerm, Weights]], block: Indices, neighbours: Neighbours
) -> tuple[Weights, Weights]:
    """Each passage's score by its own words, and by those that its neighbours lend it.

    Document frequencies are counted in the columns themselves.
    """
    own = np.zeros(len(block), dtype=np.float32)
    shared = np.zeros(len(block), dtype=np.float32)
    for term, weights in words:
        frequency = int(np.count_nonzero(weights))
        if frequency == 0:
            continue
        factor = np.float32(term.frequency * idf(frequency, len(block)))
        own += weights * factor
        shared += with_neighbours(weights, block, neighbours) * factor
    return own, shared


def _words(
    scan: ScopeScan, terms: Sequence[QueryTerm], passages: Indices
) -> Iterator[tuple[QueryTerm, Weights]]:
    """Each word of the question with its weight in the passages: that of its best form, the word as
    it stands or a stem of it."""
    words: dict[int, tuple[QueryTerm, list[Buffer]]] = {}
    for term, column in zip(terms, scan.term_weights, strict=True):
        words.setdefault(term.word, (term, []))[1].append(column)
    for term, columns in words.values():
        weights = np.maximum.reduce([np.frombuffer(column, np.float32) for column in columns])
        yield term, weights[passages]


def _covered(ends: Indices, neighbours: Neighbours) -> Indices:
    """[w, WINDOW_TURNS] the blocks of each window, the last first; -1 where a session begins."""
    previous = np.append(neighbours.previous, -1)  # of -1: -1
    columns = [ends]
    for _ in range(WINDOW_TURNS - 1):
        columns.append(previous[columns[-1]])
    return np.stack(columns, axis=1)


def _timely(instants: npt.NDArray[np.int64], spans: Sequence[TimeSpan]) -> npt.NDArray[np.float64]:
    """[m] how much a block gains by its time: more, the more precisely the question names it."""
    weights = np.zeros(len(instants))
    for span in spans:
        fits = (instants >= _microseconds(span.start)) & (instants < _microseconds(span.stop))
        length = span.stop - span.start
        weight = next(weight for longest, weight in _WEIGHT_BY_LENGTH if length <= longest)
        weights[fits] = np.maximum(weights[fits], weight)
    return weights


def _microseconds(instant: datetime) -> int:
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


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
