"""Any text at all gives a valid enrichment, the same one each time, in bounded time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from luma_memory.domain.enrichment import Enrichment, EnrichmentRequest, EntityKind
from luma_memory.providers.completion.extract import extract
from luma_memory.providers.completion.extract.language import warm_up

WHEN = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
# Far above what is measured (20 ms for the worst of these texts), far below quadratic.
LONG_TEXT_SECONDS_MAX = 0.5

FRAGMENTS = [
    "yesterday ", "last Friday", "May 5 ", "2023-02-30", "31/02/2024 ", "in 2019",
    "every Monday ", "a few days ago",
    "**", "```", "`", "# ", "- ", "[a](b)", "[image: x]", "<b>", "</", "\n", "\n\n", "\r\n", "\t",
    ". ", "! ", "?", "…", ":",
    "Noor ", "Dr. ", "University of ", "NASA ", "iPhone ", "Hey ", "Thanks, ", "I'm ", "don't ",
    "l'année ",
    "$1,200 ", "50 % ", "+49 30 123456", "http://a.b/c?d=(e)", "x@y.example", "@", "{}", "\\(",
    "\\frac",
    "昨日", "北京", "안녕", "مرحبا ", "Привет ", "สวัสดี",
    "👨‍👩‍👧", "é", "e\u0301", "\u200d", "\u202e",
    "\0", "\ud800", "ß", "İ", "ǅ", "ﬁ",
]  # fmt: skip
texts = st.one_of(
    st.text(max_size=400),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Mn", "Lu", "Ll", "Zs"]), max_size=80),
    st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join),
)


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    warm_up()


def enriched(text: str, when: datetime = WHEN, speaker: str | None = None) -> Enrichment:
    return extract(EnrichmentRequest(text, when, speaker), model="test")


def assert_valid(result: Enrichment) -> None:
    assert 1 <= len(result.title) <= 120
    assert len(result.title.splitlines()) == 1
    assert 1 <= len(result.summary) <= 600
    assert len(result.tags) <= 10
    assert len(set(result.tags)) == len(result.tags)
    assert all(tag and tag == tag.lower() for tag in result.tags)
    assert_valid_entities(result)
    assert 0.0 <= result.importance <= 1.0
    assert result.language == "und" or len(result.language) == 2
    storable = [result.title, result.summary, *result.tags, *(e.name for e in result.entities)]
    for text in storable:
        assert "\0" not in text
        text.encode("utf-8")


def assert_valid_entities(result: Enrichment) -> None:
    assert len(result.entities) <= 50
    assert len({(e.name, e.kind) for e in result.entities}) == len(result.entities)
    for entity in result.entities:
        assert entity.name.strip()
        assert entity.kind in get_args(EntityKind)
        if entity.value is not None:
            assert entity.kind == "date"
            assert_iso(entity.value)


def assert_iso(value: str) -> None:
    for part in value.split("/"):
        padded = part + "-01" * ((10 - len(part)) // 3)
        assert datetime.fromisoformat(padded).year > 0


@settings(max_examples=examples(400))
@given(text=texts, speaker=st.none() | st.text(max_size=8))
def test_any_text_gives_a_valid_enrichment(text: str, speaker: str | None) -> None:
    assert_valid(enriched(text, speaker=speaker))


@settings(max_examples=examples(100))
@given(
    text=texts,
    when=st.datetimes(
        min_value=datetime(1, 1, 1),  # noqa: DTZ001 (made aware by `timezones`)
        max_value=datetime(9999, 12, 31),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
)
def test_any_day_gives_a_valid_enrichment(text: str, when: datetime) -> None:
    assert_valid(enriched(text + " yesterday, tomorrow, last week, in 3 years, next March", when))


@settings(max_examples=examples(100))
@given(text=texts)
def test_the_same_text_gives_the_same_enrichment(text: str) -> None:
    assert enriched(text) == enriched(text)


@pytest.mark.parametrize(
    "unit",
    ["a", "(((", "1-1-1-", " ", "\n", "[", "```\n",
     "<a", "a.", "A ", "a@", "the 1 ", "- ", "1,000 ", "# ", "http://",
     "Of ", "漢", "\0", "[aa: ", "![a](", "Aa of ", "May 5 ", "+1 ", "yesterday ", "2023-01-0",
     "a'", "👨‍👩‍👧", "\ud800",
     "every Friday ", "$1 ", "www.", "a b. ", "| a ", "x\n\n"],
)  # fmt: skip
def test_a_long_text_takes_bounded_time(unit: str) -> None:
    text = (unit * 100_000)[:100_000]
    enriched(text[:200])  # word lists of its language, read once
    started = time.thread_time()
    assert_valid(enriched(text))
    assert time.thread_time() - started < LONG_TEXT_SECONDS_MAX


def test_text_without_a_character_to_show_still_has_a_title() -> None:
    result = enriched("\0\u202e\ud800")
    assert (result.title, result.summary, result.language) == ("…", "…", "und")
    assert result.importance == pytest.approx(0.05)


def test_the_label_of_the_speaker_is_no_part_of_the_text() -> None:
    labeled = enriched("Noor: I moved to Lisbon in March.", speaker="Noor")
    assert labeled == enriched("I moved to Lisbon in March.", speaker="Noor")
    assert enriched("Noor: I moved.", speaker="Tom").title.startswith("Noor")
