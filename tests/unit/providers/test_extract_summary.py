"""Titles and summaries."""

from __future__ import annotations

import pytest

from luma_memory.providers.completion.extract.document import read
from luma_memory.providers.completion.extract.summary import summary, title
from luma_memory.providers.completion.extract.text import heading, readable, shorten


def title_of(text: str, language: str = "en") -> str:
    return title(read(readable(text), language), heading(text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Hey Noor! Good to see you! I adopted a greyhound.", "I adopted a greyhound"),
        ("Wow, Noor, that pottery bowl looks delicate!", "That pottery bowl looks delicate"),
        ("But my landlord cancelled the contract.", "My landlord cancelled the contract"),
        ("Which vaccine does a ferret need?", "Which vaccine does a ferret need?"),
        ("# Trip plan\n\n- Fly to Lisbon\n- Rent a van", "Trip plan"),
        ("Certainly! An index on `user_id` is quick.", "An index on user_id is quick"),
        ("Thanks!", "Thanks"),
        ("👍", "👍"),
    ],
)  # fmt: skip
def test_a_title_is_a_line_of_its_own(text: str, line: str) -> None:
    assert title_of(text) == line


def test_a_long_sentence_is_cut_at_a_clause_or_between_words() -> None:
    start = "I rebuilt the carburettor of the old motorbike"
    assert (
        title_of(f"{start}, because nobody in the village repairs such engines any more") == start
    )
    words = f"{start} that stood behind the barn of my grandfather for years"
    cut = title_of(words)
    assert cut.endswith("…")
    assert words.startswith(cut[:-1])
    assert words[len(cut) - 1] == " "


@pytest.mark.parametrize(
    ("language", "text"),
    [("ja", "京都の清水寺" * 40), ("th", "สวัสดีครับ" * 40), ("zh", "北京故宫" * 50)],
)
def test_text_without_spaces_is_cut_by_characters(language: str, text: str) -> None:
    assert 30 < len(title_of(text, language)) <= 80


def test_a_short_text_is_its_own_summary() -> None:
    text = "I moved  to Lisbon.\nSee https://example.org/flat and **bring** cake."
    expected = "I moved to Lisbon. See https://example.org/flat and **bring** cake."
    assert summary(read(readable(text), "en"), text) == expected


def test_the_summary_of_a_long_text_holds_whole_sentences_of_it_in_order() -> None:
    filler = "It was a day like any other and we did this and that. "
    text = (
        "Sure, here is more.\n\n## Soil\n\nTomatoes need acidic soil with plenty of compost. "
        + filler * 8
        + "Compost makes the soil of tomatoes hold water.\n"
        + "```\nimport garden\n```\n"
    )
    result = summary(read(readable(text), "en"), text)
    first, second = result.find("Tomatoes need acidic soil"), result.find("Compost makes the soil")
    assert 0 <= first < second
    assert "import garden" not in result
    assert len(result) <= 600


@pytest.mark.parametrize("limit", range(2, 30))
def test_an_emoji_sequence_or_accent_is_not_cut_apart(limit: int) -> None:
    text = "👨‍👩‍👧‍👦👍🏽e\u0301" * 8
    cut = shorten(text, limit).removesuffix("…")
    assert len(cut) < limit
    rest = text[len(cut) :]
    if limit > 14:
        assert rest[0] not in "\u200d\u0301\U0001f3fd"
        assert not cut.endswith("\u200d")
