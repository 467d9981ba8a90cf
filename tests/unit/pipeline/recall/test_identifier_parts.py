"""Words that a block has only inside an identifier do not make it relevant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.pipeline.recall.identifier_parts import has_only_inside_identifiers
from luma_memory.pipeline.text.questions import query_terms
from luma_memory.pipeline.text.terms import document_terms


def is_hidden(question: str, text: str) -> bool:
    return has_only_inside_identifiers(text, query_terms(question))


@pytest.mark.parametrize(
    ("question", "text"),
    [
        *((part, "My token is aB3_xY-9.") for part in ("X", "xY", "b", "9", "aB3", "Y")),
        ("What is X?", "My token is aB3_xY-9."),
        ("Wer kennt Y?", "Der Code lautet kP7_qZ-2y-Y4."),
        ("qZ", "Le code est kP7_qZ-2."),
        ("AbC", "The key is tR5.AbC/9xQ."),
        ("E7", "ghp_16C7e42F292c6912E7710c838347Ae"),
        ("D3", "密钥是 wQ8-D3-zz。"),
        ("sk_live_51Hx9AbCdEg", "The key is sk_live_51Hx9AbCdEf."),
        ("aGVsbG8gd29ybGR", "base64: aGVsbG8gd29ybGQ="),
        ("xK9-mQ2_pL8", "session xK9-mQ2_pL7"),
        ("live", "The key is sk_live_51Hx9AbCdEf."),
        ("X", "We watched X-Men."),
        ("C", "The service is written in C++ and C#."),
        ("A", "The A/B-test ended."),
        ("Q", "The Q&A was long."),
    ],
)
def test_a_part_of_an_identifier_is_no_word(question: str, text: str) -> None:
    stored = set(document_terms(text).indices)
    terms = query_terms(question)
    is_found = any(term.index in stored for term in terms if term.is_direct)
    assert not is_found or has_only_inside_identifiers(text, terms)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("aB3_xY-9", "My token is aB3_xY-9."),
        ("What is aB3_xY-9 for?", "My token is aB3_xY-9."),
        ("aB3_xY-9", "See https://host.example/?token=aB3_xY-9&from=mail"),
        ("sk_live_51Hx9AbCdEf", "KEY=sk_live_51Hx9AbCdEf"),
        ("token", "My token is aB3_xY-9."),
        ("X", "X is in aB3_X-9."),
        ("C++", "The service is written in C++."),
        ("X-Men", "We watched X-Men."),
        ("vitamin C", "Vitamin C is in kale."),
        ("payments", "payments-api:2.3.1 is live."),
        ("2.3.1", "payments-api:2.3.1 is live."),
        ("python", "needs python3.11"),
        ("user", "getUserById is slow."),
        ("phone", "my iPhone15 broke"),
        ("ABC", "Ticket ABC-123 is done."),
        ("rain", "No word of it."),
        ("550e8400", "UUID 550e8400-e29b-41d4-a716-446655440000"),
    ],
)
def test_a_word_or_a_whole_identifier_is_found(question: str, text: str) -> None:
    assert not is_hidden(question, text)


def test_a_joined_word_of_single_letters_is_searched_as_a_whole() -> None:
    for text, unit in (("C++", "c++"), ("Who knows C#?", "c#"), ("the R&D budget", "r&d")):
        terms = {term.term: term.is_direct for term in query_terms(text)}
        assert terms[unit]
        assert not terms[unit[0]]


@given(st.text(max_size=40), st.text(max_size=200))
def test_no_text_fails(question: str, text: str) -> None:
    has_only_inside_identifiers(text, query_terms(question))
