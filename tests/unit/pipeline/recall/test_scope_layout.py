"""What is laid out does not depend on where the database keeps its rows."""

from __future__ import annotations

from array import array
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.search import WINDOW_ORDINAL, ScopeScan, TimeSpan
from luma_memory.pipeline.recall.fusion import fuse
from luma_memory.pipeline.recall.scope_layout import (
    ScopeLayout,
    ScoringRequest,
    lay_out,
    scored_by_scan,
)
from luma_memory.pipeline.text.terms import QueryTerm

TERM = QueryTerm("cat", 7, 1)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

Row = tuple[int, int, int, int, int, float, float]  # block, ordinal, session, at, who, dense, term


def scan_of(rows: list[Row]) -> ScopeScan:
    def column(place: int, typecode: str) -> array:  # type: ignore[type-arg]
        return array(typecode, [row[place] for row in rows])

    return ScopeScan(
        block_ids=b"".join(UUID(int=row[0] + 1).bytes for row in rows),
        ordinals=column(1, "i"),
        sessions=column(2, "q"),
        instants=column(3, "q"),
        speakers=column(4, "q"),
        dense=column(5, "f"),
        term_weights=[column(6, "f")],
        name_keys=array("i"),
    )


@st.composite
def scopes(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    number = st.floats(0.125, 1, width=16)
    for block in range(draw(st.integers(1, 12))):
        session, at = draw(st.integers(0, 2)), draw(st.integers(0, 3))
        for ordinal in range(draw(st.integers(1, 3))):
            weight = draw(st.one_of(st.just(0.0), number))
            rows.append((block, ordinal, session, at, 0, draw(number), weight))
        if session and draw(st.booleans()):
            rows.append((block, WINDOW_ORDINAL, session, at, 0, draw(number), 0.0))
    return rows


@given(scopes(), st.randoms(use_true_random=False))
def test_the_same_scores_to_the_last_digit_in_any_order_of_rows(
    rows: list[Row], dice: np.random.Generator
) -> None:
    first = fuse(lay_out(scored_by_scan(scan_of(rows)), [TERM]).scores, limit=50)
    dice.shuffle(rows)
    assert fuse(lay_out(scored_by_scan(scan_of(rows)), [TERM]).scores, limit=50) == first


def test_a_window_without_its_block_is_nobodys() -> None:
    rows: list[Row] = [
        (0, 0, 1, 0, 0, 0.5, 0.0),
        (1, WINDOW_ORDINAL, 1, 1, 0, 0.9, 0.0),
        (2, 0, 1, 2, 0, 0.5, 0.0),
    ]
    layout = lay_out(scored_by_scan(scan_of(rows)), [TERM])
    assert [layout.block_id(n).int for n in range(2)] == [3, 1]
    assert layout.scores.neighbor_scores is not None
    assert len(layout.scores.neighbor_scores.windows) == 0


def test_a_window_covers_the_turns_before_it_in_its_own_session() -> None:
    # Newest first: blocks 4, 3, 2, 1, 0 have the numbers 0 to 4.
    rows: list[Row] = [(n, 0, 2 if n == 2 else 1, n, 0, 0.1, 0.0) for n in range(5)]
    rows += [(4, WINDOW_ORDINAL, 1, 4, 0, 0.8, 0.0), (1, WINDOW_ORDINAL, 1, 1, 0, 0.2, 0.0)]
    around = lay_out(scored_by_scan(scan_of(rows)), [TERM]).scores.neighbor_scores
    assert around is not None
    assert around.covered.tolist() == [[0, 1, 3], [3, 4, -1]]


def test_words_lent_by_a_neighbor_count_and_are_scored_separately() -> None:
    rows: list[Row] = [(0, 0, 1, 0, 0, 0.1, 1.0), (1, 0, 1, 1, 0, 0.1, 0.0)]
    scores = lay_out(scored_by_scan(scan_of(rows)), [TERM]).scores
    assert scores.own_lexical is not None
    assert scores.own_lexical[0] == 0 < scores.lexical[0] < scores.lexical[1]
    assert scores.own_lexical[1] == scores.lexical[1]


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.25])] * 3), min_size=1, max_size=8))
def test_a_word_counts_as_its_best_form_and_coverage_is_a_share(
    weights: list[tuple[float, float, float]],
) -> None:
    """Two forms of one word, and another word: as if the better form were the only one."""
    rows: list[Row] = [(n, 0, 0, n, 0, 0.1, 0.0) for n in range(len(weights))]

    def laid(columns: list[list[float]], terms: list[QueryTerm]) -> ScopeLayout:
        columns_of = [array("f", column) for column in columns]
        return lay_out(scored_by_scan(replace(scan_of(rows), term_weights=columns_of)), terms)

    one, other, second = (list(column) for column in zip(*weights, strict=True))
    forms = [QueryTerm("cats", 1, 1, 0), QueryTerm("dog", 3, 1, 1), QueryTerm("~cat", 2, 1, 0)]
    best = [max(pair) for pair in zip(one, other, strict=True)]
    both = laid([one, second, other], forms)
    alone = laid([best, second], forms[:2])
    assert both.scores.lexical.tolist() == alone.scores.lexical.tolist()
    shares = both.coverage.share(slice(None)).tolist()
    assert shares == alone.coverage.share(slice(None)).tolist()
    has_all = [a > 0 and b > 0 for a, b in zip(best, second, strict=True)][::-1]
    for share, whole, lexical in zip(shares, has_all, both.scores.lexical.tolist(), strict=True):
        assert 0 <= share <= 1
        assert (share > 0.999) is whole
        assert (share > 0) is (lexical > 0)


def test_a_span_holds_its_start_and_not_its_stop() -> None:
    rows: list[Row] = [(n, 0, 0, n * 1_000_000, 0, 0.1, 0.0) for n in range(4)]
    span = TimeSpan(EPOCH + timedelta(seconds=1), EPOCH + timedelta(seconds=3))
    scoring = ScoringRequest(spans=[span])
    around = lay_out(scored_by_scan(scan_of(rows)), [TERM], scoring).scores.neighbor_scores
    assert around is not None
    assert (around.timely > 0).tolist() == [False, True, True, False]


def test_blocks_of_the_named_time_need_no_words_for_it() -> None:
    """ "Dinner on 2026-11-10": a block of that day is not lacking the number."""
    rows: list[Row] = [(n, 0, 0, n * 1_000_000, 0, 0.1, 0.0) for n in range(3)]
    columns = [array("f", [1.0] * 3), array("f", [0.0] * 3)]
    terms = [QueryTerm("dinner", 1, 1, 0), QueryTerm("2026-11-10", 2, 1, 1, kind="code")]
    start = EPOCH + timedelta(seconds=1)
    scoring = ScoringRequest(
        spans=[TimeSpan(start, start + timedelta(seconds=1), named_by="2026-11-10")],
        time_words=frozenset({"2026-11-10"}),
    )
    scan = replace(scan_of(rows), term_weights=columns)
    layout = lay_out(scored_by_scan(scan), terms, scoring)
    words = layout.words_of(np.arange(3))
    in_time = words.best(words.shares) > 0.999
    assert np.count_nonzero(in_time) == 1
    assert words.unknown.tolist() == np.where(in_time, 0.0, 1.0).tolist()
