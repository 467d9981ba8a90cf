"""Language detection."""

from __future__ import annotations

import pytest

from luma_memory.providers.completion.extract.language import UNDETERMINED, identify


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I finally signed the lease for the new flat.", "en"),
        ("We had paella at the beach and I felt calm afterwards.", "en"),
        ("Ik was in the zone bij het werk en daarna thuis met mijn zus", "nl"),
        ("Samstag Paint it Black und Out of Time gespielt", "de"),
        ("Escuchamos With or Without You toda la noche", "es"),
        ("Das war of course ein Fehler, den wir nicht mehr machen", "de"),
        ("Gestern war ich mit meiner Schwester im Zoo.", "de"),
        ("Tengo un perro que se llama Max", "es"),
        ("Je travaille depuis peu à la bibliothèque", "fr"),
        ("Ho comprato una bicicletta nuova", "it"),
        ("Ontem fui ao cinema com minha irmã", "pt"),
        ("Ik heb vandaag mijn fiets gerepareerd", "nl"),
        ("昨日映画を見ました", "ja"),
        ("我昨天去了北京", "zh"),
        ("안녕하세요", "ko"),
        ("Wczoraj byłem w kinie z siostrą", "pl"),
    ],
)
def test_the_language_of_a_clear_text_is_identified(text: str, language: str) -> None:
    identified = identify(text)
    assert (identified.reported, identified.assumed) == (language, language)


@pytest.mark.parametrize(
    "text", ["Ticket to the Moon gekauft, Album von ELO", "Ma soeur adore Into the Wild"]
)
def test_an_english_title_makes_no_english_text(text: str) -> None:
    assert identify(text).reported != "en"


@pytest.mark.parametrize(
    "text",
    [
        "Надежда уехала",
        "Кот на окне",
        "Встреча с Борисом",
        "Мария готова",
        "佐藤一郎",
        "東京",
        "علی رفت",
    ],
)
def test_a_few_words_of_a_shared_script_are_undetermined(text: str) -> None:
    assert identify(text).reported == UNDETERMINED
    assert identify(text).assumed != "en"


@pytest.mark.parametrize("text", ["", "ok", "12:30", ";)", "🎉🎉", "Berlin!", "Dinner at 8"])
def test_too_little_is_undetermined_and_read_as_english(text: str) -> None:
    identified = identify(text)
    assert (identified.reported, identified.assumed) == (UNDETERMINED, "en")
