"""The words of a language known to the extractors, from `vocabulary/<language>.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

# Patterns over the rest of a date's sentence, written over several lines.
_IN_SENTENCES = (
    *("future", "future_nouns", "past_verbs"),
    *("present", "participles", "appointments"),
)
LANGUAGES = ("en", "de", "es", "fr", "it", "pt", "nl")


@dataclass(frozen=True, slots=True)
class NameCues:
    """Words that indicate the kind of the capitalized word beside them."""

    titles: frozenset[str] = frozenset()
    kin: frozenset[str] = frozenset()
    company: frozenset[str] = frozenset()
    person_after: frozenset[str] = frozenset()
    place_before: frozenset[str] = frozenset()
    place_verbs: frozenset[str] = frozenset()  # of living and traveling
    place_never: frozenset[str] = frozenset()  # endings of words that are no places
    organization_before: frozenset[str] = frozenset()
    organization_verbs: frozenset[str] = frozenset()
    place_words: frozenset[str] = frozenset()
    organization_words: frozenset[str] = frozenset()
    event_words: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ImportanceCues:
    """Words that make a memory worth keeping."""

    self: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    commitments: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DayWords:
    """A phrase (regular expression) that names a day by its distance from today."""

    phrase: str
    offset: int


@dataclass(frozen=True, slots=True)
class Feast:
    """A phrase (regular expression) that names a day of the year: of the calendar, by its distance
    from Easter Sunday, or the fourth Thursday of November.
    """

    phrase: str
    month: int = 0
    day: int = 0
    easter: int | None = None
    thanksgiving: int | None = None  # days after it
    weekday: bool = False  # whether the phrase has a weekday's name


@dataclass(frozen=True, slots=True)
class DateWords:
    """The words of a language for dates; strings are fragments of regular expressions."""

    triggers: str  # without one of these, a month, a weekday or a digit a text contains no date
    months: Sequence[str]  # January first; spellings separated by spaces
    months_need_capital: str  # spellings that are other words in lower case
    weekdays: Sequence[str]  # Monday first
    seasons: str
    order: str  # of 07/05/2023: "mdy" or "dmy"
    day_suffix: str
    between_day_and_month: str
    between_month_and_year: str
    month_after: str
    year_after: str
    every: str  # words of repetition: "every Friday" is no date
    event_before: str  # "before" an event that is named in place of a date
    event_after: str
    past_before: str
    this_before: str
    next_before: str
    past_after: str
    next_after: str
    unit: Mapping[str, str]
    units: Mapping[str, str]
    ago_before: str
    ago_after: str
    ahead_before: str
    ahead_after: str
    numerals: Mapping[str, int]
    vague: str  # "a few": a date without a certain value
    future: str
    days: Sequence[DayWords]
    range_from: str  # "from" 5 "to" 8 March
    range_to: str
    range_bare: str  # "to", without a "from" before it
    # Future things ("appointment"), unless the sentence has a verb in the past.
    future_nouns: str = "(?!)"
    past_verbs: str = "(?!)"
    # "I have", of what lies ahead as of the past: with an appointment, the sentence looks forward;
    # without one it proves nothing, unless it has a verb of the past or a participle.
    present: str = "(?!)"
    participles: str = "(?!)"
    appointments: str = "(?!)"
    half_year: str = ""
    fortnight: str = ""
    before_last_before: str = ""  # "vorletzte" Woche
    before_last_after: str = ""  # week "before last"
    after_next_before: str = ""
    after_next_after: str = ""
    weeks_from: str = ""  # a week "from" Monday
    today: str = ""
    tomorrow: str = ""
    quarter: str = ""
    quarters: Mapping[str, int] = field(default_factory=dict)
    halves: str = ""  # "half of", "Halbjahr", before a year; `quarters` are its numbers
    named_weekdays: str = ""  # "Black Friday": no weekday of this week
    either: str = "or|oder|ou|o|of"  # two "or" three days
    # Before a time that a question asks about: on which side of it the days lie.
    since: str = ""
    after: str = ""
    before: str = ""
    last_before: str = ""  # the "last" two weeks
    last_between: str = ""  # les deux "dernières" semaines, instead
    weekday_ordinals: Mapping[str, int] = field(default_factory=dict)  # "last" (-1) Friday of March
    of_month: str = ""  # the last Friday "of" March
    weekday_number: str = ""  # Friday "the" 13th
    weekday_ago: str = ""  # "a week ago Monday", between the count's unit and the weekday
    weeks_after: str = ""  # "Montag in einer Woche", between the day and the count
    day_and_month: str = ""  # before "3.3." without a year
    day_alone: str = ""  # "on the 25th", with the group `day`
    changed: str = ""  # verbs of moving an appointment "from" a day to another
    changed_from: str = ""
    feast_before: str = ""  # "at" Christmas
    feast_compounds: str = ""  # Christmas "tree" is not a time
    feasts: Sequence[Feast] = ()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All word lists of one language; empty for a language without a file."""

    language: str
    stop: frozenset[str] = frozenset()
    light: frozenset[str] = frozenset()
    discourse: frozenset[str] = frozenset()
    anaphora: frozenset[str] = frozenset()
    conjunctions: frozenset[str] = frozenset()
    weak_suffixes: tuple[str, ...] = ()
    elision: frozenset[str] = frozenset()
    names: NameCues = field(default_factory=NameCues)
    importance: ImportanceCues = field(default_factory=ImportanceCues)
    dates: DateWords | None = None


@cache
def vocabulary(language: str) -> Vocabulary:
    """The word lists of an ISO 639-1 language; empty lists if there are none."""
    if language not in LANGUAGES:
        return Vocabulary(language)
    path = resources.files(__package__) / "vocabulary" / f"{language}.toml"
    return _parse(language, tomllib.loads(path.read_text(encoding="utf-8")))


def _parse(language: str, table: dict[str, Any]) -> Vocabulary:
    return Vocabulary(
        language,
        stop=_words(table["stop"]),
        light=_words(table["light"]),
        discourse=_words(table["discourse"]),
        anaphora=_words(table["anaphora"]),
        conjunctions=_words(table["conjunctions"]),
        weak_suffixes=tuple(table["weak_suffixes"]),
        elision=frozenset(table["elision"]),
        names=NameCues(**{key: _words(value) for key, value in table["names"].items()}),
        importance=ImportanceCues(
            **{key: _words(value) for key, value in table["importance"].items()}
        ),
        dates=_date_words(table["dates"]),
    )


def _date_words(table: dict[str, Any]) -> DateWords:
    days = [DayWords(**entry) for entry in table.pop("days")]
    feasts = [Feast(**entry) for entry in table.pop("feasts", ())]
    joined: dict[str, Any] = {
        name: table[name].replace("\n", "") for name in _IN_SENTENCES if name in table
    }
    words: dict[str, Any] = {**table, **joined, "days": days, "feasts": feasts}
    return DateWords(**words)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())
