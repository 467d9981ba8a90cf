"""Words become terms, terms become vectors, and their inner product is BM25."""

from __future__ import annotations

import math
import struct
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.pipeline.text import words
from luma_memory.pipeline.text.questions import MAX_QUERY_TERMS, query_terms
from luma_memory.pipeline.text.terms import (
    MAX_ELEMENTS,
    TERM_SPACE,
    WEIGHTING,
    TermVector,
    date_words,
    document_terms,
    idf,
    query_vector,
    term_index,
)

VOCABULARY = ("otter", "harbour", "lantern", "violin", "granite", "meadow", "the", "seventy")
passages_of_words = st.lists(
    st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=30).map(" ".join),
    min_size=1,
    max_size=12,
)
any_text = st.text(max_size=300)


def terms(text: str) -> list[str]:
    return [term.term for term in query_terms(text)]


def found(query: str, text: str) -> bool:
    query_indices = {term.index for term in query_terms(query)}
    return bool(query_indices & set(document_terms(text).indices))


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("running", "She runs every day"),
        ("cafe", "We met at the Café"),
        ("CAFÉ", "the cafes of Vienna"),
        ("Lodz", "Born in Łódź"),
        ("cafe\u0301", "café"),
        ("Mira", "Mira’s violin"),
        ("snake_case", "call get_snake_case() or snake_case"),
        ("snake", "the snake_case rule"),
        ("getUserName", "obj.getUserName()"),
        ("user", "obj.getUserName()"),
        ("v1.2.3", "released v1.2.3 today"),
        ("1.2.3", "released v1.2.3 today"),
        ("ABC-123", "ticket abc-123, please"),
        ("123", "ticket ABC-123"),
        ("ada@example.org", "mail ada@example.org now"),
        ("https://example.org/a?b=1", "see https://example.org/a?b=1."),
        ("example", "see https://example.org/a?b=1."),
        ("C++", "I write C++ and C#"),
        ("1000", "it cost 1,000 euros"),
        ("3.14", "about 3.14"),
        ("2023-05-07", "on 2023-05-07"),
        ("東京", "昨日東京に行きました"),
        ("猫", "猫が好き"),
        ("서울", "서울에서 만나요"),
        ("ไทย", "ภาษาไทย"),
        ("हिन्दी", "मैं हिन्दी बोलता हूँ"),
        ("iPhone", "iPhoneを買った"),
        ("ＡＢＣ", "abc"),
        ("to be or not to be", "To be, or not to be."),
        ("May", "in May 2023"),
    ],
)
def test_a_text_is_found_by(query: str, text: str) -> None:
    assert found(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [("1.2.3", "v1.2.4"), ("v1.2.3", "v1.2.4"), ("run", "ran away"), ("the otter", "the harbour")],
)
def test_a_text_is_not_found_by(query: str, text: str) -> None:
    assert not found(query, text)


def test_stop_words_leave_unless_nothing_else_is_there() -> None:
    assert terms("Where did the otter go?") == ["otter", "go"]
    assert terms("Who are you?") == ["who", "are", "you"]
    assert len(document_terms("It was there").indices) == 3
    assert document_terms("... ?!").indices == []


def test_a_joined_word_is_looked_up_whole_and_by_its_parts() -> None:
    assert terms("self-made ABC-123") == ["self-made", "self", "made", "abc-123", "abc", "123"]
    assert terms("well...then otter") == ["well", "otter"]


def test_indices_never_change() -> None:
    assert term_index("otter") == 693_608_186
    assert term_index("東京") == 215_949_809


@given(any_text)
def test_every_vector_is_one_pgvector_takes(text: str) -> None:
    vector = document_terms(text)
    indices = list(vector.indices)
    assert indices == sorted(set(indices))
    assert all(1 <= index <= TERM_SPACE for index in indices)
    assert all(0 < weight < WEIGHTING.k1 + 1 for weight in vector.weights)
    assert len(indices) == len(vector.weights)


@given(any_text)
def test_every_text_with_a_term_is_found_by_itself(text: str) -> None:
    query = {term.index for term in query_terms(text)}
    assert query <= set(document_terms(text).indices)
    assert len(query) <= MAX_QUERY_TERMS
    assert bool(query) == bool(document_terms(text).indices)


@given(any_text)
def test_both_wire_forms_say_the_same(text: str) -> None:
    vector = document_terms(text)
    body = vector.to_text().removesuffix(f"/{TERM_SPACE}").strip("{}")
    pairs = [pair.split(":") for pair in body.split(",") if pair]
    binary = vector.to_binary()
    dimension, count, unused = struct.unpack_from(">3i", binary)
    zero_based = struct.unpack_from(f">{count}i", binary, 12)
    values = struct.unpack_from(f">{count}f", binary, 12 + 4 * count)
    assert (dimension, count, unused) == (TERM_SPACE, len(vector.indices), 0)
    assert len(binary) == 12 + 8 * count
    assert [int(index) for index, _ in pairs] == [index + 1 for index in zero_based]
    assert [float(value) for _, value in pairs] == pytest.approx(values, rel=1e-5)


def test_binary_form_by_hand() -> None:
    assert TermVector((1, TERM_SPACE), (1.0, 2.0)).to_binary().hex() == (
        "3b9aca000000000200000000000000003b9ac9ff3f80000040000000"
    )


@given(passages_of_words, st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=6))
def test_the_inner_product_is_bm25_the_long_way(texts: list[str], question: list[str]) -> None:
    query = query_terms(" ".join(question))
    counts = [[w for w in text.split() if w != "the"] or text.split() for text in texts]
    stems = [[words.ANALYZER.terms(word)[0] for word in passage] for passage in counts]
    frequencies = [sum(term.term in passage for passage in stems) for term in query]
    vector = query_vector(query, frequencies, passage_count=len(texts))
    for text, passage in zip(texts, stems, strict=True):
        expected = 0.0
        norm = 1 - WEIGHTING.b + WEIGHTING.b * len(passage) / WEIGHTING.average_length
        for term, df in zip(query, frequencies, strict=True):
            tf = passage.count(term.term)
            rarity = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            saturated = tf * (WEIGHTING.k1 + 1) / (tf + WEIGHTING.k1 * norm)
            expected += term.frequency * rarity * saturated
        assert document_terms(text).inner_product(vector) == pytest.approx(expected)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_idf_is_never_negative_and_falls_with_frequency(df: int, count: int) -> None:
    assert idf(df, count) >= idf(df + 1, count) > 0


def test_query_vector_leaves_out_what_no_passage_has() -> None:
    query = query_terms("otter lantern")
    assert query_vector(query, [0, 3], passage_count=9).indices == [term_index("lantern")]


def test_context_finds_without_outweighing_the_text() -> None:
    plain = document_terms("Mira plays the violin")
    vector = document_terms("Mira plays the violin", context=["Mira", date_words(date(2023, 5, 7))])
    weights = dict(zip(vector.indices, vector.weights, strict=True))
    assert {term_index(t) for t in ("sunday", "7", "may", "2023")} <= set(weights)
    assert (
        weights[term_index("mira")]
        == dict(zip(plain.indices, plain.weights, strict=True))[term_index("mira")]
    )


def test_an_unknown_language_gets_the_default_rules() -> None:
    assert document_terms("running otters", language="xx") == document_terms("running otters")


def test_bounds_hold_for_hostile_texts() -> None:
    many = " ".join(f"w{number}" for number in range(MAX_ELEMENTS + 500)) + " w5 w5"
    vector = document_terms(many)
    assert len(vector.indices) == MAX_ELEMENTS
    assert term_index("w5") in vector.indices
    for text in ("a" * 100_000, "_" * 100_000, "a." * 50_000, "aB" * 50_000, "漢字" * 50_000):
        document_terms(text)
        assert len(query_terms(text[:10_000])) <= MAX_QUERY_TERMS  # no question is longer


def test_the_word_cache_is_bounded_and_keeps_no_long_word() -> None:
    cache = words.ANALYZER._indices
    assert cache.cache_info().maxsize == 32_768
    assert words.ANALYZER._known_words.cache_info().maxsize == 4_096
    before = cache.cache_info().misses
    document_terms("z" * 40)
    assert cache.cache_info().misses == before + 1
    document_terms("z" * 1000)
    assert cache.cache_info().misses == before + 1


@pytest.mark.parametrize("word", ["next", "Jan", "ﷺ", "Ｗｉｄｅ", "a.b"])
def test_a_word_that_a_text_repeats_is_stemmed_once(word: str) -> None:
    """Questions have up to 10,000 characters."""
    stemmed: list[str] = []

    def stem(text: str) -> str:
        stemmed.append(text)
        return text

    analyzer = words.Analyzer(stem, frozenset())
    once = analyzer.words(word)
    calls = len(stemmed)
    assert analyzer.words(f"{word} " * 2_000) == once * 2_000
    assert calls == len(stemmed) > 0  # and not again in the next text
    long = "z" * 65
    for _ in range(2):
        analyzer.words(f"{long} " * 10)
    assert stemmed.count(long) == 2  # a long word is not kept


def test_a_word_is_kept_or_not_whatever_it_was_before() -> None:
    """Analyzed words are kept: a stop word alone is one, beside others it is none."""
    for _ in range(2):
        assert words.ANALYZER.terms("the") == ["the"]
        assert words.ANALYZER.terms("the kayak") == ["kayak"]
