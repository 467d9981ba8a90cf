"""Words in other forms, in other languages than English; and what must stay found whatever is."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.pipeline.text.questions import MAX_QUERY_TERMS, query_terms
from luma_memory.pipeline.text.stems import LANGUAGES, stems
from luma_memory.pipeline.text.terms import TermVector, document_terms

languages = st.sampled_from(LANGUAGES)


def found(query: str, text: str, *, query_language: str | None, written: str) -> bool:
    expected = {term.index for term in query_terms(query, language=query_language)}
    return bool(expected & set(document_terms(text, language=written).indices))


INFLECTED = [
    ("de", "Katzen", "Die Katze schläft auf dem Sofa."),
    ("de", "Übungen", "Die Übung war schwer."),
    ("fr", "chevaux blancs", "Elle monte un cheval blanc."),
    ("fr", "l'école", "Les écoles sont fermées."),
    ("es", "canciones", "Cantó una canción antigua."),
    ("it", "ragazze", "La ragazza parla con Anna."),
    ("pt", "livros", "Ele leu o livro inteiro."),
    ("nl", "katten", "De kat slaapt."),
    ("sv", "katterna", "Katten sover."),
    ("fi", "kirjassa", "Luin kirjan eilen."),
    ("ru", "книги", "Я читал книгу вчера."),
    ("tr", "evlerde", "Evde kimse yok."),
    ("pl", "kotami", "Widziałem kota w ogrodzie."),
    ("hu", "házakban", "A ház régi."),
]


@pytest.mark.parametrize(("language", "query", "text"), INFLECTED)
def test_another_form_of_a_word_is_found(language: str, query: str, text: str) -> None:
    assert found(query, text, query_language=language, written=language)
    # A question of a word or two does not say which language it is in.
    assert found(query, text, query_language=None, written=language)
    assert not found(query, "Nothing of that kind is here.", query_language=None, written="en")


@pytest.mark.parametrize(
    "exact",
    [
        *("4711", "1,5", "XK-4417-B", "snake_case_name", "ada@example.org", "C++", "v1.2.3"),
        *("München", "Nguyễn", "книгу", "東京", "İstanbul", "naïve", "Straße"),
    ],
)
def test_what_is_written_the_same_is_found_in_any_language(exact: str) -> None:
    for query_language, written in product(
        ["en", "de", "ja", "xx", None], ["en", "de", "tr", "ru", "und"]
    ):
        text = f"so: {exact}, ok"
        assert found(exact, text, query_language=query_language, written=written), (
            query_language,
            written,
        )


@given(st.text(min_size=1, max_size=80), languages, languages | st.none())
def test_every_text_is_found_by_itself_whatever_either_is_taken_for(
    text: str, written: str, query_language: str | None
) -> None:
    if query_terms(text):
        assert found(text, text, query_language=query_language, written=written)


@given(st.text(max_size=200), languages)
def test_stems_add_to_the_words_and_change_none(text: str, language: str) -> None:
    plain, more = document_terms(text), document_terms(text, language=language)
    weights = dict(zip(more.indices, more.weights, strict=True))
    assert all(
        weights[i] == pytest.approx(w) for i, w in zip(plain.indices, plain.weights, strict=True)
    )
    assert list(more.indices) == sorted(set(more.indices))


@given(st.text(max_size=400), languages | st.none() | st.just("en"))
def test_a_question_has_bounded_terms_each_once(text: str, language: str | None) -> None:
    terms = query_terms(text, language=language)
    assert len(terms) <= MAX_QUERY_TERMS
    assert len({term.term for term in terms}) == len(terms)
    words = {term.word for term in terms}
    assert words == set(range(len(words)))
    plain = query_terms(text)
    # What counts toward a passage's share of them is another matter: `function_words`.
    assert [(t.term, t.frequency, t.word, t.kind) for t in terms[: len(plain)]] == [
        (t.term, t.frequency, t.word, t.kind) for t in plain
    ]


def test_english_blocks_and_long_questions_pay_nothing() -> None:
    assert list(stems("The cats are sleeping", "en")) == []
    question = "Which of the green bicycles did the tall neighbour borrow from our cellar?"
    assert query_terms(question, language=None) == query_terms(question)


def test_a_word_in_a_page_without_spaces_is_no_word_to_stem() -> None:
    assert list(stems("a" * 1_000, "de")) == []
    assert isinstance(document_terms("ä" * 100_000, language="de"), TermVector)
