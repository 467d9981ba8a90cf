"""Converts the raw columns of a scope's scan to the input of fusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, TypeVar
from uuid import UUID

import numpy as np
import numpy.typing as npt

from luma_memory.domain.search import ScopeScan, TimeSpan, microseconds
from luma_memory.pipeline.recall.arrangement import Arrangement, RowPlaces, arrange, id_halves
from luma_memory.pipeline.recall.coverage import Coverage, TimeWords, coverage_of
from luma_memory.pipeline.recall.events import QueryEvent, fitting
from luma_memory.pipeline.recall.fusion import (
    NeighborScores,
    ScopeScores,
    WordScores,
    word_scores,
)
from luma_memory.pipeline.recall.groups import Indices
from luma_memory.pipeline.recall.neighbors import TermWeights, with_neighbors
from luma_memory.pipeline.recall.postings import Posting, best_form, posting_of
from luma_memory.pipeline.recall.speakers import meant
from luma_memory.pipeline.text.terms import QueryTerm, idf

# Shares of `Additions.time`: for a day, a week, anything longer.
_WEIGHT_BY_LENGTH: Final = (
    (timedelta(days=1, hours=2), 4.0),
    (timedelta(days=8), 2.0),
    (timedelta.max, 1.0),
)
_Real = TypeVar("_Real", bound=np.floating[Any])


@dataclass(frozen=True, slots=True, eq=False)
class BlockWords:
    """What k blocks have of a question's words, by their p passages, block after block."""

    passages: Indices  # [p]
    sizes: Indices  # [k] passages of each
    starts: Indices  # [k] where each begins in the arrays of passages
    shares: npt.NDArray[np.float32]  # [p] 0..1, of the question's words
    # [k] 0..1, of its identifiers that no passage of the scope has; 1 if the block lacks a required
    # term.
    unknown: npt.NDArray[np.float64]

    def best(self, values: npt.NDArray[_Real]) -> npt.NDArray[_Real]:
        """[k] the largest value of each block's passages. values: [p]."""
        return np.maximum.reduceat(values, self.starts) if len(self.starts) else values


@dataclass(frozen=True, slots=True)
class ScopeLayout:
    """Blocks numbered newest first: of equal z-scores the newer one comes first."""

    scores: ScopeScores
    word_scores: WordScores
    ordinals: npt.NDArray[np.int32]  # [n] of the passages
    coverage: Coverage
    _arrangement: Arrangement
    _in_time: npt.NDArray[np.bool_]  # [m] the blocks of a time that the question names
    is_about_time_only: bool = False  # the question names a time and nothing else

    def block_id(self, number: int) -> UUID:
        places = self._arrangement
        return UUID(int=int(places.high[number]) << 64 | int(places.low[number]))

    def numbers(self, block_ids: Iterable[UUID]) -> Mapping[UUID, int]:
        """The numbers of the given blocks that are in the layout."""
        included = list(block_ids)
        rising = self._arrangement.rising_high
        halves = np.array([key.int >> 64 for key in included], dtype=np.uint64)
        starts = np.searchsorted(rising, ~halves)
        stops = np.searchsorted(rising, ~halves, side="right")
        found = {}
        for key, start, stop in zip(included, starts.tolist(), stops.tolist(), strict=True):
            for number in range(start, stop):
                if self.block_id(number) == key:
                    found[key] = number
        return found

    def are_proven_by_time(self, numbers: Indices) -> npt.NDArray[np.bool_]:
        """[k] whether its time alone makes a block relevant: "What did I do yesterday?"."""
        scores = self.scores.neighbor_scores
        if scores is None or not self.is_about_time_only:
            return np.zeros(len(numbers), dtype=bool)
        return scores.timely[numbers] > 0

    def words_of(self, numbers: Indices) -> BlockWords:
        """What each of k blocks has of the question's words. numbers: [k]."""
        coverage, groups = self.coverage, self._arrangement.groups
        passages, sizes = groups.members(numbers), groups.sizes[numbers]
        starts = np.cumsum(sizes) - sizes
        in_time = self._in_time[numbers]
        unknown = np.where(in_time, coverage.unknown_in_time, coverage.unknown)
        if len(numbers):
            unknown[np.minimum.reduceat(coverage.lacking[passages], starts) > 0] = 1.0
        return BlockWords(passages, sizes, starts, coverage.share(passages), unknown)


@dataclass(frozen=True, slots=True, eq=False)
class WordLayout:
    """The part of a layout that needs no vector."""

    arrangement: Arrangement
    own_lexical: npt.NDArray[np.float32] | None  # [n] BM25; None: not requested
    lexical: npt.NDArray[np.float32]  # [n] BM25, the neighbors' words included
    meant: npt.NDArray[np.bool_]  # [m]
    timely: npt.NDArray[np.float64]  # [m]
    in_time: npt.NDArray[np.bool_]  # [m]
    coverage: Coverage
    scores: WordScores
    is_about_time_only: bool

    def with_vectors(self, similarities: Similarities) -> ScopeLayout:
        """The whole layout."""
        places = self.arrangement
        neighbor_scores = NeighborScores(
            session=places.neighbors.session,
            windows=similarities.windows,
            covered=places.covered,
            meant=self.meant,
            timely=self.timely,
            coverage=places.coverage,
            session_order=(places.neighbors.order, places.neighbors.starts),
        )
        scores = ScopeScores(
            dense=similarities.dense,
            lexical=self.lexical,
            block=places.block,
            own_lexical=self.own_lexical,
            neighbor_scores=neighbor_scores,
            groups=places.groups,
        )
        return ScopeLayout(
            scores,
            self.scores,
            places.ordinals,
            self.coverage,
            places,
            self.in_time,
            is_about_time_only=self.is_about_time_only,
        )


@dataclass(frozen=True, slots=True, eq=False)
class MatchedRows:
    """What is known of an arrangement for one question before it has a vector."""

    arrangement: Arrangement
    postings: Sequence[Posting]  # one a query term
    name_keys: Sequence[int]  # one per requested name


@dataclass(frozen=True, slots=True, eq=False)
class Similarities:
    """The cosines of an arrangement's vectors with that of one question."""

    dense: npt.NDArray[np.float32]  # [n] of passages; NaN where no vector of the model is stored
    windows: npt.NDArray[np.float32]  # [w]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRows:
    """The passages and windows of an arrangement, with their scores for one question."""

    matched: MatchedRows
    similarities: Similarities


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """The criteria of a question besides its vector and terms."""

    named: Sequence[int] = ()  # keys of names in the question
    own: Sequence[int] = ()  # keys of the user's own names
    spans: Sequence[TimeSpan] = ()
    events: Sequence[QueryEvent] = ()
    time_words: frozenset[str] = frozenset()  # terms of the question that name the spans


def scored_by_scan(scan: ScopeScan) -> ScoredRows:
    """The rows of a scan, with their scores."""
    dense = np.frombuffer(scan.dense, dtype=np.float32)
    high, low = id_halves(scan.block_ids)
    places = arrange(
        RowPlaces(
            high=high,
            low=low,
            ordinals=np.frombuffer(scan.ordinals, dtype=np.int32),
            sessions=np.frombuffer(scan.sessions, dtype=np.int64),
            instants=np.frombuffer(scan.instants, dtype=np.int64),
            speakers=np.frombuffer(scan.speakers, dtype=np.int64),
            has_vector=~np.isnan(dense),
        )
    )
    columns = [np.frombuffer(column, dtype=np.float32) for column in scan.term_weights]
    postings = [posting_of(column[places.passages]) for column in columns]
    return ScoredRows(
        MatchedRows(places, postings, scan.name_keys),
        Similarities(dense[places.passages], dense[places.windows]),
    )


def lay_out(
    rows: ScoredRows, terms: Sequence[QueryTerm], scoring: ScoringRequest | None = None
) -> ScopeLayout:
    """Sum up BM25 and arrange all scores. Arguments as of `lay_out_words`."""
    return lay_out_words(rows.matched, terms, scoring).with_vectors(rows.similarities)


def lay_out_words(
    rows: MatchedRows,
    terms: Sequence[QueryTerm],
    scoring: ScoringRequest | None = None,
    *,
    with_own: bool = True,
) -> WordLayout:
    """All of a layout that needs no vector.

    terms: those whose weights the rows have, in the same order. with_own: whether to score each
    passage's own words too, which only the baselines read.
    """
    scoring = scoring or ScoringRequest()
    places = rows.arrangement
    words = _words(rows, terms)
    own, shared = _own_bm25(words, places) if with_own else None, _bm25(words, places)
    timely, in_time = _no_times(len(places.instants))
    in_time_passages: Indices = np.zeros(0, dtype=np.intp)
    if scoring.spans:
        timely = _timely(places.instants, scoring.spans)
        in_time = timely > 0
        in_time_passages = np.flatnonzero(in_time[places.block])
    if scoring.events:
        by_event = fitting(scoring.events, words, places.block, places.instants)
        timely = np.maximum(timely, by_event)
    by_speaker = meant(
        places.speakers, named=scoring.named, own=scoring.own, known=places.known_speakers
    )
    return WordLayout(
        arrangement=places,
        own_lexical=own,
        lexical=shared,
        meant=by_speaker,
        timely=timely,
        in_time=in_time,
        coverage=coverage_of(
            words, len(places.passages), TimeWords(scoring.time_words, in_time_passages)
        ),
        scores=word_scores(
            shared,
            places.groups,
            meant=by_speaker,
            timely=timely if scoring.spans or scoring.events else None,
        ),
        is_about_time_only=any(span.is_whole_question for span in scoring.spans),
    )


def _bm25(
    words: Sequence[tuple[QueryTerm, Posting]], places: Arrangement
) -> npt.NDArray[np.float32]:
    """[n] each passage's score by its own words and by those of its neighbors."""
    scores = np.zeros(len(places.passages), dtype=np.float32)
    of_term = TermWeights(places.groups)
    for term, posting in words:
        if posting.frequency:
            passages, weights = with_neighbors(posting, places.groups, places.neighbors, of_term)
            # For a repeated passage NumPy adds only one of its values, which are equal.
            scores[passages] += weights * _factor(term, posting, len(scores))
    return scores


def _own_bm25(
    words: Sequence[tuple[QueryTerm, Posting]], places: Arrangement
) -> npt.NDArray[np.float32]:
    """[n] each passage's score by its own words."""
    scores = np.zeros(len(places.passages), dtype=np.float32)
    for term, posting in words:
        if posting.frequency:
            scores[posting.passages] += posting.weights * _factor(term, posting, len(scores))
    return scores


def _factor(term: QueryTerm, posting: Posting, count: int) -> np.float32:
    return np.float32(term.frequency * idf(posting.frequency, count))


def _words(rows: MatchedRows, terms: Sequence[QueryTerm]) -> Sequence[tuple[QueryTerm, Posting]]:
    """Each word of the question with the passages that have it, by its best form: the word itself
    or a stem of it."""
    words: dict[int, tuple[QueryTerm, list[Posting]]] = {}
    for term, posting in zip(terms, rows.postings, strict=True):
        words.setdefault(term.word, (term, []))[1].append(posting)
    return [(term, best_form(forms)) for term, forms in words.values()]


@lru_cache(maxsize=64)
def _no_times(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """[count] zeros, and whether each is above 0: one value each, as most questions name no time
    and arrays that nothing else needs displace those that are needed."""
    return np.broadcast_to(np.float64(0.0), count), np.broadcast_to(np.bool_(False), count)


def _timely(instants: npt.NDArray[np.int64], spans: Sequence[TimeSpan]) -> npt.NDArray[np.float64]:
    """[m] each block's gain for its time; the more precise the named time, the higher."""
    weights = np.zeros(len(instants))
    for span in spans:
        fits = (instants >= microseconds(span.start)) & (instants < microseconds(span.stop))
        length = span.stop - span.start
        weight = next(weight for longest, weight in _WEIGHT_BY_LENGTH if length <= longest)
        weights[fits] = np.maximum(weights[fits], weight)
    return weights
