"""From the raw columns of a scope's scan to what fusion reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import ScopeScan, TimeSpan
from luma_memory.pipeline.recall.arrangement import ROW_ID, Arrangement, RowPlaces, arrange
from luma_memory.pipeline.recall.coverage import covered_share
from luma_memory.pipeline.recall.events import QueryEvent, Weights, fitting
from luma_memory.pipeline.recall.fusion import Indices, NeighborScores, ScopeScores
from luma_memory.pipeline.recall.neighbors import Neighbors, with_neighbors
from luma_memory.pipeline.recall.speakers import meant
from luma_memory.pipeline.text.terms import QueryTerm, idf

# Shares of `Additions.time`: for a day, a week, anything longer.
_WEIGHT_BY_LENGTH: Final = (
    (timedelta(days=1, hours=2), 4.0),
    (timedelta(days=8), 2.0),
    (timedelta.max, 1.0),
)
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
        included = {block_id.bytes: block_id for block_id in block_ids}
        halves = self._ids.view(">u8").reshape(-1, 2)[:, 0].astype(np.uint64)
        firsts = np.array([int.from_bytes(key[:8]) for key in included], dtype=np.uint64)
        near = ((int(n), self._ids[n].tobytes()) for n in np.flatnonzero(np.isin(halves, firsts)))
        return {included[key]: number for number, key in near if key in included}

    def is_proven_by_time(self, number: int) -> bool:
        """Whether its time alone makes the block relevant: "What did I do yesterday?"."""
        scores = self.scores.neighbor_scores
        return self.is_about_time_only and scores is not None and bool(scores.timely[number] > 0)

    def passages(self, number: int) -> slice:
        """Where a block's passages stand: they lie together, by block number."""
        start, stop = np.searchsorted(self.scores.block, [number, number + 1])
        return slice(int(start), int(stop))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRows:
    """Rows of a scope in some order, their arrangement, and what one question scores each."""

    arrangement: Arrangement
    dense: npt.NDArray[np.float32]  # cosine; NaN where no vector of the model is stored
    term_weights: Sequence[Weights]  # one column a query term; 0 where it is absent
    name_keys: Sequence[int]  # one a name asked for


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What a question asks for beside its meaning and its words."""

    named: Sequence[int] = ()  # keys of names in the question
    own: Sequence[int] = ()  # keys of the user's own names
    spans: Sequence[TimeSpan] = ()
    events: Sequence[QueryEvent] = ()


def scored_by_scan(scan: ScopeScan) -> ScoredRows:
    """The rows of a scan in their order, with the scores that came with them."""
    dense = np.frombuffer(scan.dense, dtype=np.float32)
    arrangement = arrange(
        RowPlaces(
            ids=np.frombuffer(scan.block_ids, dtype=ROW_ID),
            ordinals=np.frombuffer(scan.ordinals, dtype=np.int32),
            sessions=np.frombuffer(scan.sessions, dtype=np.int64),
            instants=np.frombuffer(scan.instants, dtype=np.int64),
            speakers=np.frombuffer(scan.speakers, dtype=np.int64),
            has_vector=~np.isnan(dense),
        )
    )
    weights = [np.frombuffer(column, dtype=np.float32) for column in scan.term_weights]
    return ScoredRows(arrangement, dense, weights, scan.name_keys)


def lay_out(
    rows: ScoredRows, terms: Sequence[QueryTerm], scoring: ScoringRequest | None = None
) -> ScopeLayout:
    """Sum up BM25, and bring all scores into the order of the arrangement.

    terms: those whose weights the rows have, in the same order.
    """
    scoring = scoring or ScoringRequest()
    places = rows.arrangement
    words = list(_words(rows, terms))
    own, shared = _bm25(words, places.block, places.neighbors)
    coverage, unknown = covered_share(words, len(places.passages))
    neighbor_scores = NeighborScores(
        session=places.neighbors.session,
        windows=rows.dense[places.windows],
        covered=places.covered,
        meant=meant(places.speakers, named=scoring.named, own=scoring.own),
        timely=np.maximum(
            _timely(places.instants, scoring.spans),
            fitting(scoring.events, words, places.block, places.instants),
        ),
    )
    scores = ScopeScores(
        dense=rows.dense[places.passages],
        lexical=shared,
        block=places.block,
        own_lexical=own,
        neighbor_scores=neighbor_scores,
    )
    return ScopeLayout(
        scores,
        places.ordinals,
        coverage,
        unknown,
        places.ids,
        is_about_time_only=any(span.is_whole_question for span in scoring.spans),
    )


def _bm25(
    words: Sequence[tuple[QueryTerm, Weights]], block: Indices, neighbors: Neighbors
) -> tuple[Weights, Weights]:
    """Each passage's score by its own words, and by those that its neighbors lend it.

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
        shared += with_neighbors(weights, block, neighbors) * factor
    return own, shared


def _words(rows: ScoredRows, terms: Sequence[QueryTerm]) -> Iterator[tuple[QueryTerm, Weights]]:
    """Each word of the question with its weight in the passages: that of its best form, the word as
    it stands or a stem of it."""
    words: dict[int, tuple[QueryTerm, list[Weights]]] = {}
    for term, column in zip(terms, rows.term_weights, strict=True):
        words.setdefault(term.word, (term, []))[1].append(column)
    for term, columns in words.values():
        weights = columns[0] if len(columns) == 1 else np.maximum.reduce(columns)
        yield term, weights[rows.arrangement.passages]


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
