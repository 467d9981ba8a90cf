"""Labels and long numbers of a question: a block without them is about something else."""

from __future__ import annotations

import numpy as np
import pytest

from luma_memory.pipeline.recall.coverage import TimeWords, coverage_of
from luma_memory.pipeline.recall.postings import posting_of
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.pipeline.text.terms import document_terms


def lacking(question: str, *texts: str) -> list[bool]:
    """For each text, whether it lacks a required term of the question."""
    vectors = [document_terms(text) for text in texts]
    words = []
    for term in query_terms(question):
        column = [dict(zip(v.indices, v.weights, strict=True)).get(term.index, 0) for v in vectors]
        words.append((term, posting_of(np.array(column, dtype=np.float32))))
    by_word = {term.word: (term, posting) for term, posting in reversed(words)}
    time = TimeWords(frozenset(), np.array([], dtype=np.intp))
    return [bool(n) for n in coverage_of(list(by_word.values()), len(texts), time).lacking]


@pytest.mark.parametrize(
    ("question", "having", "other"),
    [
        ("Section C", "Section C is open.", "Section A is closed, vitamin D helps."),
        ("Section A", "Section A is closed.", "Section B is a problem."),
        ("bus 43", "Bus 43 leaves at nine.", "Bus 42 leaves at nine."),
        ("Is bus 43 late?", "Bus 43 is late.", "Bus 42 is late."),
        ("Zimmer 12", "Zimmer 12 ist frei.", "Zimmer 13 ist frei."),
        ("ticket xyz-123", "Ticket XYZ-123 is done.", "Ticket ABC-123 is done."),
        ("GPT-4", "We use GPT-4.", "We use GPT-5."),
        ("CVE-2021-44228", "CVE-2021-44228 is log4shell.", "CVE-2021-44229 is not."),
        ("978-3-16-148410-0", "ISBN 978-3-16-148410-0", "ISBN 978-3-16-148410-1"),
        ("9783161484100", "ISBN 978-3-16-148410-0", "ISBN 978-3-16-148410-1"),
        ("555-12-35", "Call 555-12-35.", "Call 555-12-34."),
        ("01 23 45 67 89", "Appelle le 01.23.45.67.89", "Appelle le 01 23 45 67 88"),
        ("01761234567", "Call 0176 1234567.", "IBAN DE89 3704 0044 0532 0130 00"),
    ],
)
def test_a_block_without_the_label_lacks_it(question: str, having: str, other: str) -> None:
    assert lacking(question, having, other) == [False, True]


@pytest.mark.parametrize(
    "question",
    [
        "my 5-year-old nephew",
        "What did I plan mid-2024?",
        "Which 3 books did I read?",
        "dinner on 2026-11-10",
        "What page did I like?",
        "Where is Section Control?",
    ],
)
def test_ordinary_words_and_numbers_are_not_required(question: str) -> None:
    assert not any(term.is_required for term in query_terms(question) if term.kind == "label")
