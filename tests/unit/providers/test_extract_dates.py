"""Dates a text mentions, against calendars written out here and against dateparser."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from dateparser.date import DateDataParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from luma_memory.providers.completion.extract import date_values as values
from luma_memory.providers.completion.extract import dates as dates_module
from luma_memory.providers.completion.extract.date_grammar import grammar
from luma_memory.providers.completion.extract.dates import dates
from luma_memory.providers.completion.extract.document import read
from luma_memory.providers.completion.extract.language import identify
from luma_memory.providers.completion.extract.vocabulary import LANGUAGES, vocabulary

MONDAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def resolved(text: str, language: str = "en", when: datetime = MONDAY) -> list[str | None]:
    return [mention.value for mention in dates(read(text, language), when)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("I saw her yesterday.", "2023-05-07"),
        ("the day before yesterday we met", "2023-05-06"),
        ("Last night was long", "2023-05-07"),
        ("Tomorrow I fly home", "2023-05-09"),
        ("We moved last week", "2023-05-01/2023-05-07"),
        ("camping last weekend", "2023-05-06/2023-05-07"),
        ("I start next month", "2023-06"),
        ("She graduated last year", "2022"),
        ("We met on 7 May 2023.", "2023-05-07"),
        ("due March 15, 2024", "2024-03-15"),
        ("on the 3rd of Sept. 2021", "2021-09-03"),
        ("since May 2021 I run", "2021-05"),
        ("back in 2019 I lived there", "2019"),
        ("the summer of 2018", "2018"),
        ("two weeks ago", "2023-04-24/2023-04-30"),
        ("three years ago", "2020"),
        ("ten days ago", "2023-04-28"),
        ("in 5 months", "2023-10"),
        ("2023-02-28T10:00", "2023-02-28"),
        ("05/06/2023", "2023-05-06"),
        ("25/06/2023", "2023-06-25"),
        ("07.05.2023", "2023-05-07"),
        ("this past Sunday", "2023-05-07"),
        ("this Friday", "2023-05-12"),
        ("I quit in January", "2023-01"),
        ("I quit in October", "2022-10"),
        ("last May", "2022-05"),
    ],
)  # fmt: skip
def test_english_forms(text: str, value: str) -> None:
    assert resolved(text) == [value]


@pytest.mark.parametrize(
    ("language", "text", "value"),
    [
        ("de", "Gestern war es schön", "2023-05-07"),
        ("de", "Letzten Freitag waren wir dort", "2023-05-05"),
        ("de", "vor zwei Wochen", "2023-04-24/2023-04-30"),
        ("de", "am 3. März 2021 geboren", "2021-03-03"),
        ("de", "Ich fange morgen an", "2023-05-09"),
        ("es", "El viernes pasado cenamos", "2023-05-05"),
        ("es", "hace dos semanas", "2023-04-24/2023-04-30"),
        ("es", "el 7 de mayo de 2021", "2021-05-07"),
        ("es", "Mañana viajo a Lima", "2023-05-09"),
        ("fr", "Vendredi dernier j'ai couru", "2023-05-05"),
        ("fr", "le mois dernier", "2023-04"),
        ("fr", "le 1er avril 2022", "2022-04-01"),
        ("it", "due settimane fa", "2023-04-24/2023-04-30"),
        ("it", "l'anno prossimo", "2024"),
        ("pt", "na sexta-feira passada", "2023-05-05"),
        ("pt", "há três dias", "2023-05-05"),
        ("nl", "twee weken geleden", "2023-04-24/2023-04-30"),
        ("nl", "afgelopen zaterdag", "2023-05-06"),
        ("sv", "Igår var jag på bio", "2023-05-07"),
        ("pl", "Spotkanie 7 maja 2023", "2023-05-07"),
        ("ja", "昨日、京都へ行きました", "2023-05-07"),
    ],
)
def test_other_languages(language: str, text: str, value: str) -> None:
    assert resolved(text, language) == [value]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "I swim every Friday"),
        ("en", "You may march on"),
        ("en", "April asked for 2000 people and 12 chairs"),
        ("en", "the past weeks were hard"),
        ("en", "Version 5.3.0 at 10:30"),
        ("en", "2023-02-30 is no day"),
        ("de", "Guten Morgen zusammen"),
        ("de", "jeden Freitag"),
        ("es", "por la mañana"),
    ],
)
def test_what_is_no_date(language: str, text: str) -> None:
    assert resolved(text, language) == []


WEDNESDAY = datetime(2026, 3, 11, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "dentist appointment on Monday", ["2026-03-16"]),
        ("en", "My passport expires on Friday.", ["2026-03-13"]),
        ("en", "The deadline is Monday.", ["2026-03-16"]),
        ("en", "planned for Monday", ["2026-03-16"]),
        ("en", "The appointment on Monday went well.", ["2026-03-09"]),
        ("en", "The deadline was Monday.", ["2026-03-09"]),
        ("en", "The host 10.12.20.25 is down. Upgraded to 1.2.26.", []),
        ("en", "We run version 10.12.20 of it", []),
        ("en", "released 1.2.26 yesterday", ["2026-03-10"]),
        ("en", "libfoo 24.04.1 is out", []),
        ("en", "[13/04/26] Hi there. [03/05/26] Bye.", ["2026-04-13", "2026-05-03"]),
        ("en", "[04/13/26] Hi there. [03/05/26] Bye.", ["2026-04-13", "2026-03-05"]),
        ("en", "half a year ago", ["2025-09"]),
        ("en", "I moved here half a year ago.", ["2025-09"]),
        ("en", "05 MAR 24", ["2024-03-05"]),
        ("en", "Invoice of 05 MAR 24.", ["2024-03-05"]),
        ("en", "5-Mar-24", ["2024-03-05"]),
        ("en", "100,000 years ago in 10 billion years", []),
        ("en", "on 5 March 24 people came", ["2026-03-05"]),
        ("en", "a week from Monday", ["2026-03-23"]),
        ("en", "two weeks from tomorrow", ["2026-03-26"]),
        ("en", "eleven days ago", ["2026-02-28"]),
        ("en", "a fortnight ago", ["2026-02-23/2026-03-01"]),
        ("en", "in a fortnight", ["2026-03-23/2026-03-29"]),
        ("en", "the week before last", ["2026-02-23/2026-03-01"]),
        ("en", "the month before last", ["2026-01"]),
        ("en", "the week after next", ["2026-03-23/2026-03-29"]),
        ("en", "I saw him on the 25th.", ["2026-02-25"]),
        ("en", "The rent is due on the 25th.", ["2026-03-25"]),
        ("en", "on the 25th floor", []),
        ("en", "on the 25th anniversary", []),
        ("en", "Q3 2025", ["2025-07-01/2025-09-30"]),
        ("en", "revenue in Q3 2025 was good", ["2025-07-01/2025-09-30"]),
        ("en", "the third quarter of 2025", ["2025-07-01/2025-09-30"]),
        ("en", "2025-Q3", ["2025-07-01/2025-09-30"]),
        ("en", "What did I do at Christmas?", ["2025-12-25"]),
        ("en", "last Christmas we went to Rome", ["2025-12-25"]),
        ("en", "Christmas 2024 was quiet", ["2024-12-25"]),
        ("en", "We bought a Christmas tree", []),
        ("en", "for Christmas dinner", []),
        ("en", "next Christmas", ["2026-12-25"]),
        ("en", "on New Year's Eve we danced", ["2025-12-31"]),
        ("en", "2026-07-25/26", ["2026-07-25/2026-07-26"]),
        ("en", "What happened from 24 to 26 July?", ["2025-07-24/2025-07-26"]),
        ("en", "from 5 to 8 March 2026", ["2026-03-05/2026-03-08"]),
        ("en", "from 26 to 24 July", [None]),
        ("en", "between 24 and 26 July 2025", ["2025-07-24/2025-07-26"]),
        ("en", "July 24-26, 2025", ["2025-07-24/2025-07-26"]),
        ("en", "we were away from July 24 to August 2", ["2025-07-24/2025-08-02"]),
        ("en", "from 28 December 2025 to 3 January 2026", ["2025-12-28/2026-01-03"]),
        ("en", "from March to May 2025", ["2025-03-01/2025-05-31"]),
        ("en", "from 2019 to 2021", ["2019-01-01/2021-12-31"]),
        ("en", "5–8 March 2026", ["2026-03-05/2026-03-08"]),
        ("en", "March 5th to 8th, 2026", ["2026-03-05/2026-03-08"]),
        ("en", "from 2026-03-05 to 2026-03-08", ["2026-03-05/2026-03-08"]),
        ("en", "Call 05-06-2023-44", []),
        ("en", "phone 030-12-05-26", []),
        ("en", "ISBN 978-3-16-148410-0", []),
        ("en", "192.168.1.26", []),
        ("en", "thirty days ago", ["2026-02-09"]),
        ("en", "He left a fortnight ago", ["2026-02-23/2026-03-01"]),
        ("en", "today", ["2026-03-11"]),
        ("en", "Meeting at 10.12.26", []),
        ("en", "Meeting on 10.12.26", ["2026-12-10"]),
        ("en", "We fly on 13.04.26.", ["2026-04-13"]),
        ("en", "See you Monday", ["2026-03-16"]),
        ("en", "I had a meeting on Monday", ["2026-03-09"]),
        ("en", "The flight leaves on Sunday", ["2026-03-15"]),
        ("en", "in 2 weeks", ["2026-03-23/2026-03-29"]),
        ("de", "vor einem halben Jahr", ["2025-09"]),
        ("de", "vor elf Tagen", ["2026-02-28"]),
        ("de", "vorletzte Woche", ["2026-02-23/2026-03-01"]),
        ("de", "übernächste Woche", ["2026-03-23/2026-03-29"]),
        ("de", "Zahnarzttermin am Montag", ["2026-03-16"]),
        ("de", "Termin am Montag", ["2026-03-16"]),
        ("de", "Der Termin am Montag war gut.", ["2026-03-09"]),
        ("de", "vom 24. bis 26. Juli 2025", ["2025-07-24/2025-07-26"]),
        ("de", "Ich war vom 24. bis zum 26. Juli dort", ["2025-07-24/2025-07-26"]),
        ("de", "3. Quartal 2025", ["2025-07-01/2025-09-30"]),
        ("de", "an Weihnachten waren wir da", ["2025-12-25"]),
        ("de", "letzte Weihnachten", ["2025-12-25"]),
        ("de", "Am 25. war ich dort.", ["2026-02-25"]),
        ("de", "13.04.26", ["2026-04-13"]),
        ("de", "am 1.2.26", ["2026-02-01"]),
        ("de", "Update auf 1.2.26", []),
        ("de", "Version 10.12.20 läuft", []),
        ("fr", "du 24 au 26 juillet 2025", ["2025-07-24/2025-07-26"]),
        ("fr", "il y a quinze jours", ["2026-02-23/2026-03-01"]),
        ("fr", "rendez-vous chez le dentiste lundi", ["2026-03-16"]),
        ("fr", "à Noël", ["2025-12-25"]),
        ("fr", "le marché de Noël", []),
        ("fr", "T3 2025", ["2025-07-01/2025-09-30"]),
        ("fr", "il y a onze jours", ["2026-02-28"]),
        ("es", "del 24 al 26 de julio de 2025", ["2025-07-24/2025-07-26"]),
        ("es", "hace medio año", ["2025-09"]),
        ("es", "cita con el dentista el lunes", ["2026-03-16"]),
        ("es", "en Navidad", ["2025-12-25"]),
        ("es", "hace once días", ["2026-02-28"]),
        ("es", "tercer trimestre de 2025", ["2025-07-01/2025-09-30"]),
        ("it", "dal 24 al 26 luglio 2025", ["2025-07-24/2025-07-26"]),
        ("it", "mezzo anno fa", ["2025-09"]),
        ("it", "appuntamento dal dentista lunedì", ["2026-03-16"]),
        ("it", "undici giorni fa", ["2026-02-28"]),
        ("it", "a Natale", ["2025-12-25"]),
        ("nl", "een half jaar geleden", ["2025-09"]),
        ("nl", "van 24 tot en met 26 juli 2025", ["2025-07-24/2025-07-26"]),
        ("nl", "afspraak bij de tandarts op maandag", ["2026-03-16"]),
        ("pt", "de 24 a 26 de julho de 2025", ["2025-07-24/2025-07-26"]),
        ("pt", "há onze dias", ["2026-02-28"]),
        ("pt", "consulta na segunda-feira", ["2026-03-16"]),
    ],
)
def test_spans_idioms_and_what_only_looks_like_a_date(
    language: str, text: str, expected: list[str | None]
) -> None:
    assert resolved(text, language, WEDNESDAY) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ужин вчера.", ["2026-03-10"]),
        ("Вечеря вчора.", ["2026-03-10"]),
        ("Встреча завтра", ["2026-03-12"]),
        ("昨日", ["2026-03-10"]),
        ("Сервер 10.12.20.25 не отвечает, обновили до 1.2.26.", []),
    ],
)
def test_short_texts_of_other_scripts(text: str, expected: list[str]) -> None:
    assert resolved(text, identify(text).assumed, WEDNESDAY) == expected


@pytest.mark.parametrize("text", ["1 day ago ", "on 5 May ", "1/1/26 ", "Q1 2026 ", "Jan 1 "])
def test_the_matches_examined_are_bounded(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    examined = []

    def repeated(document_text: str, start: int, rules: object) -> bool:
        examined.append(start)
        return True

    monkeypatch.setattr(dates_module, "_repeated", repeated)
    assert resolved(text * 1_000) == []
    assert len(examined) <= dates_module.MAX_MATCHES


def test_a_vague_date_has_no_value() -> None:
    [mention] = dates(read("I got it a few years ago.", "en"), MONDAY)
    assert (mention.name, mention.value) == ("a few years ago", None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("We met on Friday.", "2023-05-05"),
        ("We will meet on Friday.", "2023-05-12"),
        ("I'll be there on June 3", "2023-06-03"),
        ("I was there on June 3", "2022-06-03"),
        ("It must be done by June 3", "2023-06-03"),
        ("I will close what ended on April 20", "2023-04-20"),
    ],
)
def test_the_tense_of_the_sentence_gives_the_direction(text: str, value: str) -> None:
    assert resolved(text) == [value]


def test_a_future_tense_does_not_affect_the_next_sentence() -> None:
    assert resolved("I will call. We met on Friday.") == ["2023-05-05"]


COMPARED = {
    "en": ["yesterday", "today", "tomorrow", "last week", "this week", "next week", "last month",
    "next month", "last year",
           "next year", "last friday", "next friday", "last monday", "next sunday",
           "3 days ago", "two weeks ago",
           "four months ago", "10 years ago", "in 5 days", "in 2 weeks", "in six months",
           "7 May 2021", "March 15, 2024", "May 2019"],
    "de": ["gestern", "heute", "vorgestern", "übermorgen", "letzte Woche", "nächste Woche",
    "letzten Monat", "nächstes Jahr",
           "vor 3 Tagen", "vor zwei Wochen", "in zwei Wochen", "7. Mai 2021"],
    "es": ["ayer", "hoy", "anteayer", "la semana pasada", "el mes pasado", "el año pasado",
    "7 de mayo de 2021"],
    "fr": ["hier", "demain", "avant-hier", "la semaine dernière", "le mois dernier",
    "il y a 3 jours", "7 mai 2021"],
    "it": ["ieri", "oggi", "domani", "7 maggio 2021"],
    "pt": ["ontem", "hoje", "amanhã", "semana passada", "mês passado", "7 de maio de 2021"],
    "nl": ["gisteren", "vandaag", "morgen", "vorige week", "volgende maand", "7 mei 2021"],
}  # fmt: skip


@pytest.mark.parametrize("language", COMPARED)
@pytest.mark.parametrize("days", [0, 1, 2, 5, 6, 85, 240])
def test_common_forms_agree_with_dateparser(language: str, days: int) -> None:
    when = MONDAY + timedelta(days=days)
    config = {"RELATIVE_BASE": when.replace(tzinfo=None), "PREFER_DATES_FROM": "past"}
    parser = DateDataParser(languages=[language], settings=config)
    forms = COMPARED[language]
    expected = {text: [by_dateparser(text, parser)] for text in forms}
    assert {text: resolved(text, language, when) for text in forms} == expected


def by_dateparser(text: str, parser: DateDataParser) -> str:
    found = parser.get_date_data(text)
    assert found.date_obj is not None
    day = found.date_obj.date()
    if found.period == "week":
        monday = day - timedelta(days=day.weekday())
        return f"{monday}/{monday + timedelta(days=6)}"
    return day.isoformat()[: {"year": 4, "month": 7}.get(found.period or "day", 10)]


days = st.dates(min_value=date(1, 1, 1), max_value=date(9999, 12, 31))


@given(base=days, index=st.integers(0, 6))
def test_weekdays_lie_within_a_week_on_their_side(base: date, index: int) -> None:
    sides: list[tuple[values.Tense, int, int]] = [("past", -7, -1), ("future", 1, 7)]
    for tense, low, high in sides:
        value = values.weekday(base, index, tense)
        if value is None:
            assert base.year in (1, 9999)
            continue
        found = date.fromisoformat(value)
        assert found.weekday() == index
        assert low <= (found - base).days <= high


@given(base=days, month=st.integers(1, 12), number=st.integers(1, 31))
@example(base=date(9999, 12, 31), month=3, number=1)
@example(base=date(1, 1, 1), month=12, number=31)
@settings(max_examples=examples(200))
def test_a_day_without_a_year_is_on_its_side(base: date, month: int, number: int) -> None:
    past = values.day_without_year(base, month, number, "past")
    future = values.day_without_year(base, month, number, "future")
    if past is not None:
        assert date.fromisoformat(past) <= base
    if future is not None:
        assert (date.fromisoformat(future) - base).days <= 8 * 366


@pytest.mark.parametrize("before", ["It was nice. ", "We saw 3 boats. "])
def test_dates_behind_more_sentences_than_are_read_are_found(before: str) -> None:
    text = before * 205 + "We met on 5 March 2023 and again last Friday, and yesterday."
    assert resolved(text) == ["2023-03-05", "2023-05-05", "2023-05-07"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_form_has_a_trigger_word(language: str) -> None:
    """A rule is passed over where none of its words is: no unit may be missing from the list."""
    words, rules = vocabulary(language).dates, grammar(language)
    assert words is not None
    assert rules is not None
    for forms in words.unit.values():
        for form in forms.split("|"):
            assert "time" in {rules.triggers.get(word) for word in form.split()}, form
    lists = [words.triggers, " ".join(words.months), " ".join(words.weekdays)]
    named = [name for names in lists for name in set(re.split(r"[ |]", names))]
    assert len(named) == len(set(named))
