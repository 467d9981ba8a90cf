"""Passages cover a text without gaps, within the bound, cut where the text pauses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.pipeline.ingest.passages import MAX_TOKENS, Passage, split_passages

SENTENCE = "The otter swam past the old harbour wall at noon. "
pieces = st.sampled_from(["otter ", "harbour", ". ", "\n\n", "漢", "e\u0301", "!", " ", "9", "\n"])
texts = st.one_of(st.text(max_size=2000), st.lists(pieces, max_size=1500).map("".join))


def parts(text: str, max_tokens: int = MAX_TOKENS) -> list[str]:
    return [text[p.start : p.stop] for p in split_passages(text, max_tokens=max_tokens)]


@given(texts, st.integers(2, 300))
def test_passages_are_the_whole_text_in_order(text: str, max_tokens: int) -> None:
    passages = split_passages(text, max_tokens=max_tokens)
    assert passages[0].start == 0
    assert passages[-1].stop == len(text)
    assert all(a.stop == b.start for a, b in pairwise(passages))
    assert len(passages) == 1 or all(text[p.start : p.stop].strip() for p in passages)


@given(st.text(alphabet="漢字。、あ", max_size=1500), st.integers(2, 300))
def test_a_cjk_passage_has_no_more_characters_than_tokens(text: str, max_tokens: int) -> None:
    assert all(len(part) <= max_tokens for part in parts(text, max_tokens))


@given(st.lists(st.sampled_from(["otter ", "bay ", "fig, "]), max_size=1200).map("".join))
def test_no_passage_is_a_stub(text: str) -> None:
    cut = parts(text)
    assert len(cut) == 1 or min(len(part.split()) for part in cut) >= MAX_TOKENS // 8


def test_a_short_text_is_one_passage() -> None:
    assert list(split_passages("")) == [Passage(0, 0)]
    assert list(split_passages(SENTENCE)) == [Passage(0, len(SENTENCE))]


def test_paragraphs_are_cut_before_sentences_and_sentences_before_words() -> None:
    paragraph = SENTENCE * 14
    assert parts(f"{paragraph}\n\n{paragraph}\n\n{paragraph}") == [
        f"{paragraph}\n\n",
        f"{paragraph}\n\n",
        paragraph,
    ]
    assert all(part.endswith("noon. ") for part in parts(SENTENCE * 60))
    assert all(part.endswith(" ") for part in parts("otter " * 600))
    assert all(part.endswith("。") for part in parts("昨日東京に行きました。" * 60))


@pytest.mark.parametrize("text", ["a" * 100_000, "漢" * 100_000, "ab-" * 33_333])
def test_a_text_without_spaces_is_split_all_the_same(text: str) -> None:
    cut = parts(text)
    assert "".join(cut) == text
    assert max(len(part) for part in cut) <= 6 * MAX_TOKENS


@pytest.mark.parametrize("grapheme", ["e\u0301", "👩\u200d👩\u200d👧", "☺\ufe0f"])
@pytest.mark.parametrize("shift", range(5))
def test_a_cut_does_not_part_a_sign_from_its_marks(grapheme: str, shift: int) -> None:
    for part in parts("x" * shift + grapheme * 400)[1:]:
        assert part.startswith(grapheme)


def test_the_bound_is_checked() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        split_passages("otter", max_tokens=1)
