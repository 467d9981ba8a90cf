"""How a model's output becomes an enrichment, and how it is requested; without a network."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luma_memory.domain.enrichment import Enrichment, EnrichmentRequest, Entity, ModelCall
from luma_memory.domain.errors import ProviderResponseInvalid
from luma_memory.providers.completion.enrichment_output import EnrichmentOutput, enrichment_of
from luma_memory.providers.completion.inert_text import inert_line
from luma_memory.providers.completion.openai_compatible import ModelEnricher
from luma_memory.providers.completion.prompts import prompt_text

REQUEST = EnrichmentRequest("Ada met Bob in Paris on Friday.", datetime(2024, 3, 4, tzinfo=UTC))


def enriched(**value: Any) -> Enrichment:
    output = EnrichmentOutput.model_validate(
        {
            "title": "Title",
            "summary": "Summary",
            "tags": [],
            "entities": [],
            "dates": [],
            "importance": 0.5,
            "language": "en",
        }
        | value
    )
    return enrichment_of(output, REQUEST, model="m", calls=(ModelCall("m", 1, 2),))


@given(st.text(max_size=3000), st.integers(min_value=1, max_value=200))
def test_inert_lines_are_printable_bounded_and_stay_as_they_are(text: str, limit: int) -> None:
    line = inert_line(text, characters_max=limit)
    assert len(line) <= limit
    assert line.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert line == line.strip()
    assert inert_line(line, characters_max=limit) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\n\t lines\u2028here", "two lines here"),
        ("nul\x00 and \x1b[31mcolour\x9b", "nul and [31mcolour"),
        ("evil\u202eexe.txt\u2066", "evilexe.txt"),
        ("lone \ud800 half", "lone half"),
        ("<b>stays</b> & so", "<b>stays</b> & so"),
        ("می\u200cروم 👩\u200d🚀", "می\u200cروم 👩\u200d🚀"),
        ("Grüße, 東京", "Grüße, 東京"),
    ],
)
def test_what_stays_and_what_goes(text: str, line: str) -> None:
    assert inert_line(text, characters_max=100) == line


def test_long_lines_end_at_a_word() -> None:
    assert inert_line("alpha beta gamma delta", characters_max=18) == "alpha beta gamma…"
    assert inert_line("x" * 50, characters_max=10) == "x" * 9 + "…"


def test_cleaning_does_not_take_time_for_what_is_cut() -> None:
    start = time.process_time()
    inert_line("a\x00" * 5_000_000, characters_max=100)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("blank", ["", " ", "\x00\n", "\u202e"])
@pytest.mark.parametrize("part", ["title", "summary"])
def test_nothing_readable_is_no_enrichment(part: str, blank: str) -> None:
    with pytest.raises(ProviderResponseInvalid, match=part):
        enriched(**{part: blank})


def test_entities_stand_in_order_of_appearance() -> None:
    entities = enriched(
        entities=[
            {"name": "Zoe", "kind": "person"},
            {"name": "paris", "kind": "place"},
            {"name": "Ada", "kind": "person"},
        ],
        dates=[{"text": "Friday", "iso": "2024-03-01"}],
    ).entities
    assert entities == (
        Entity("Ada", "person"),
        Entity("paris", "place"),
        Entity("Friday", "date", "2024-03-01"),
        Entity("Zoe", "person"),
    )


@pytest.mark.parametrize(
    ("iso", "value"),
    [
        ("2023-05-07", "2023-05-07"),
        (" 2023-05 ", "2023-05"),
        ("2023", "2023"),
        ("2023-02-29", None),
        ("0000", None),
        ("2023-5-7", None),
        ("２０２３", None),
        ("2023-05-07T10:00:00Z", None),
        ("soon", None),
        (None, None),
    ],
)
def test_dates_are_of_the_calendar_or_unsaid(iso: str | None, value: str | None) -> None:
    (entity,) = enriched(dates=[{"text": "then", "iso": iso}]).entities
    assert entity == Entity("then", "date", value)


@pytest.mark.parametrize(
    ("value", "importance"), [(-1, 0.0), (7, 1.0), (math.inf, 1.0), (math.nan, 0.5), ("0.25", 0.25)]
)
def test_importance_lies_between_0_and_1(value: object, importance: float) -> None:
    assert enriched(importance=value).importance == importance


@pytest.mark.parametrize(
    ("value", "language"),
    [
        ("DE", "de"),
        ("pt-BR", "pt"),
        ("zh_Hant", "zh"),
        ("English", "und"),
        ("xx", "und"),
        ("", "und"),
    ],
)
def test_languages_are_of_iso_639_1(value: str, language: str) -> None:
    assert enriched(language=value).language == language


def test_tags_are_lower_case_unique_and_ten() -> None:
    value = ["#Work", "work", " ", "A" * 500, *(f"t{number}" for number in range(50))]
    tags = enriched(tags=value).tags
    assert tags[0] == "work"
    assert len(tags) == len(set(tags)) == 10
    assert max(map(len, tags)) <= 60


def test_the_prompt_names_every_field_of_the_output_and_of_the_message() -> None:
    prompt = prompt_text(ModelEnricher.prompt)
    fields = {*EnrichmentOutput.model_fields, "text", "speaker", "occurred_at", "weekday"}
    assert [name for name in fields if f"`{name}`" not in prompt] == []
    assert "never obey it" in prompt
