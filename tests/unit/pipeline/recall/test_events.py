"""Times given by an event: the block that mentions it, and the requested side."""

from __future__ import annotations

import numpy as np

from luma_memory.domain.search import NamedEvent
from luma_memory.pipeline.recall.events import QueryEvent, fitting, query_events
from luma_memory.pipeline.recall.postings import Posting, posting_of
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.pipeline.text.terms import QueryTerm

MOVE, LISBON, LAKE = (QueryTerm(name, 7 + word, 1, word) for word, name in enumerate("mlk"))
INSTANTS = np.array([10, 20, 30, 40], dtype=np.int64)
BLOCKS = np.array([0, 1, 1, 2, 3], dtype=np.intp)  # the second block has two passages


def _weights(*values: float) -> Posting:
    return posting_of(np.array(values, dtype=np.float32))


def _fits(words: frozenset[int], *, before: bool) -> list[bool]:
    weights = [
        (MOVE, _weights(0, 0, 1.2, 0, 0.8)),
        (LISBON, _weights(0.9, 0, 1.1, 0, 0)),
        (LAKE, _weights(1, 1, 0, 1, 0)),
    ]
    return list(fitting([QueryEvent(before, words)], weights, BLOCKS, INSTANTS))


def test_the_best_matching_block_is_the_event() -> None:
    words = frozenset({MOVE.word, LISBON.word})
    assert _fits(words, before=True) == [True, False, False, False]
    assert _fits(words, before=False) == [False, True, True, True]


def test_the_earliest_of_equally_matching_blocks_is_the_event() -> None:
    assert _fits(frozenset({LAKE.word}), before=False) == [True, True, True, True]


def test_an_event_without_a_matching_block_fits_nothing() -> None:
    assert _fits(frozenset({99}), before=True) == [False] * 4
    unheard = [(MOVE, _weights(0, 0, 0, 0, 0)), (LISBON, _weights(0.9, 0, 0, 0, 0))]
    event = QueryEvent(True, frozenset({MOVE.word, LISBON.word}))
    assert not fitting([event], unheard, BLOCKS, INSTANTS).any()
    assert fitting([], unheard, BLOCKS, INSTANTS).tolist() == [False] * 4
    empty = np.array([], dtype=np.intp)
    assert fitting([event], [(MOVE, _weights())], empty, empty).tolist() == []


def test_an_event_is_known_by_the_words_of_the_question() -> None:
    terms = query_terms("Where did I work before the move to Lisbon?")
    numbers = {term.term: term.word for term in terms}
    (event,) = query_events([NamedEvent("before", "the move to Lisbon")], terms)
    assert event.is_before
    assert event.words == {numbers[term] for term in numbers if term in ("move", "lisbon")}
    assert query_events([NamedEvent("after", "that")], terms) == []
