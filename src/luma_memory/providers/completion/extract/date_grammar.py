"""Expressions of time in the languages with a vocabulary: one compiled pattern a form.

dateparser answers the same for the forms it knows (a test holds that), but takes half a millisecond
for each and knows few of the inflected ones ("letzten Freitag", "el viernes pasado").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal, cast

from luma_memory.providers.completion.extract import date_values as values
from luma_memory.providers.completion.extract.date_values import Tense, Unit
from luma_memory.providers.completion.extract.vocabulary import DateWords, vocabulary

_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
# Weekdays spelled out in no more than five letters.
_SHORT = frozenset({"lunes", "lundi", "mardi", "jeudi"})

_DIGIT: frozenset[Trigger] = frozenset({"digit"})
_FULL_YEAR: frozenset[Trigger] = frozenset({"year"})
_MONTH: frozenset[Trigger] = frozenset({"month"})
_WEEKDAY: frozenset[Trigger] = frozenset({"weekday"})
_TIME: frozenset[Trigger] = frozenset({"time"})

_OUTER_BAR = re.compile(r"\|(?![^(]*\))")
# A word in a fragment of a pattern, with the endings it may have: `tag(?:e|en)?`, `giorn[oi]`.
_PIECE = re.compile(r"[^\W\d_][\w'’-]*\??(?:\(\?:[\w|]+\)\??|\[\w+\])?")

# (match, day the text was written, tense of its sentence) to ISO 8601, or None where it is no date.
Resolver = Callable[[re.Match[str], date, Tense], str | None]


# What a form cannot do without: a digit, a year of four, a month's name, a weekday's, another word
# of time.
Trigger = Literal["digit", "year", "month", "weekday", "time"]
YEAR = re.compile(r"(?:19|20)\d\d")


@dataclass(frozen=True, slots=True)
class Rule:
    """One form. A rule with `vague` names a date that cannot be told; its value is None."""

    pattern: re.Pattern[str]
    resolve: Resolver
    needs: frozenset[Trigger]
    words: frozenset[str] = frozenset()  # of which it needs one as well, if it names any
    vague: bool = False


@dataclass(frozen=True, slots=True)
class Grammar:
    """Rules in the order of their precedence, and the words without which they cannot match."""

    rules: tuple[Rule, ...]
    triggers: Mapping[str, Trigger]  # words in lower case
    future: re.Pattern[str]
    every: frozenset[str]


@cache
def grammar(language: str) -> Grammar | None:
    """The rules of a language; None where it has no vocabulary. Compiled once."""
    words = vocabulary(language).dates
    if words is None:
        return None
    return Grammar(
        rules=tuple(_rules(words)),
        triggers=_triggers(words),
        future=re.compile(rf"(?<!\w)(?:{words.future})(?!\w)|(?:'|’)ll\b", re.IGNORECASE),
        every=frozenset(words.every.split()),
    )


def _rules(words: DateWords) -> list[Rule]:
    months = {name: n for n, names in enumerate(words.months, 1) for name in names.split()}
    days = {name: n for n, names in enumerate(words.weekdays) for name in re.split(r"[ |]", names)}
    return [
        *_numeric(words),
        *_calendar(words, months),
        *_counted(words),
        *_shifted(words),
        *_beside(words, months, days),
        *(_named_day(words, entry.phrase, entry.offset) for entry in words.days),
        *_lone(words, months, days),
    ]


def _numeric(words: DateWords) -> list[Rule]:
    def iso(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.day(int(m["year"]), int(m["month"]), int(m["day"]))

    def iso_month(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.month(int(m["year"]), int(m["month"]))

    def ordered(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return _ordered(int(m["a"]), int(m["b"]), m["year"], _order_of(words, m["sep"]))

    number = r"\d{1,2}"
    time = r"(?:T\d\d:?\d\d[\d:.]{0,12}(?:Z|[+-]\d\d:?\d\d)?)?"
    return [
        Rule(
            _compile(
                rf"{_YEAR}(?P<s>[-/.])(?P<month>{number})(?P=s)(?P<day>{number})(?![\d/]){time}"
            ),
            iso,
            _FULL_YEAR,
        ),
        Rule(_compile(rf"{_YEAR}-(?P<month>0[1-9]|1[0-2])(?![\d-])"), iso_month, _FULL_YEAR),
        Rule(
            _compile(
                rf"(?P<a>{number})(?P<sep>[./-])(?P<b>{number})(?P=sep)(?P<year>\d{{4}}|\d{{2}})(?![\d./-]\d)"
            ),
            ordered,
            _DIGIT,
        ),
    ]


def _order_of(words: DateWords, separator: str) -> str:
    """Dots are never used month first, whatever the language."""
    return "dmy" if separator == "." else words.order


def _ordered(first: int, second: int, year_digits: str, order: str) -> str | None:
    """A day and a month in the order of the language, or in the only order that can be."""
    year = int(year_digits) if len(year_digits) == 4 else 2000 + int(year_digits)
    if not 1900 <= year <= 2099:
        return None
    month, day = (first, second) if order == "mdy" else (second, first)
    return values.day(year, month, day) or values.day(year, day, month)


def _calendar(words: DateWords, months: Mapping[str, int]) -> list[Rule]:
    def month_of(m: re.Match[str]) -> int | None:
        name = m["month"]
        if name.islower() and name in words.months_need_capital.split():
            return None
        return months.get(name.lower())

    def full(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = month_of(m)
        if number is None:
            return None
        if m["year"]:
            return values.day(int(m["year"]), number, int(m["day"]))
        return values.day_without_year(base, number, int(m["day"]), tense)

    def month_and_year(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = months.get(m["month"].lower())
        return values.month(int(m["year"]), number) if number else None

    name = rf"(?P<month>{_any(months)})"
    suffix = rf"(?:{words.day_suffix})?"
    year = _gap_then(words.between_month_and_year)
    day = rf"(?:the )?{_DAY}{suffix}"
    forms = [
        (rf"{day}{_gap_then(words.between_day_and_month)}{name}\b(?:\.?{year}{_YEAR})?", full),
        (rf"{name}\b\.?{year}{_YEAR}", month_and_year),
    ]
    if words.order == "mdy":
        forms.insert(
            1, (rf"{name}\b\.? {{1,2}}(?:the )?{_DAY}{suffix}(?:,? {{1,2}}{_YEAR})?", full)
        )
    return [
        Rule(
            _compile(rf"{form}(?![\w:])"),
            resolve,
            _MONTH | (_FULL_YEAR if resolve is month_and_year else _DIGIT),
        )
        for form, resolve in forms
    ]


def _counted(words: DateWords) -> list[Rule]:
    number = rf"(?P<n>\d{{1,3}}|{_any(words.numerals)})"
    unit, needed = _units(words.units), _words_of_units(words, words.units)

    def count(m: re.Match[str]) -> int:
        text = " ".join(m["n"].lower().split())
        return int(text) if text.isdecimal() else words.numerals[text]

    def ago(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.shifted(base, _unit(m), -count(m))

    def ahead(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.shifted(base, _unit(m), count(m))

    def untold(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return None

    before, after = words.ago_before, words.ago_after
    vague = rf"(?:{words.vague})"
    return [
        *(
            Rule(_compile(p), ago, _TIME, needed)
            for p in _around(before, f"{number} {unit}", after)
        ),
        *(
            Rule(_compile(p), untold, _TIME, needed, vague=True)
            for p in _around(before, f"{vague} {unit}", after)
        ),
        *(
            Rule(_compile(p), ahead, _TIME, needed)
            for p in _around(words.ahead_before, f"{number} {unit}", words.ahead_after)
        ),
    ]


def _shifted(words: DateWords) -> list[Rule]:
    unit, needed = _units(words.unit), _words_of_units(words, words.unit)
    steps = {"past": -1, "this": 0, "next": 1}

    def rule(pattern: str, steps: int) -> Rule:
        return Rule(
            _compile(pattern),
            lambda m, base, tense: values.shifted(base, _unit(m), steps),
            _TIME,
            needed,
        )

    return [
        *(rule(p, steps["past"]) for p in _around(words.past_before, unit, words.past_after)),
        *(rule(p, steps["next"]) for p in _around(words.next_before, unit, words.next_after)),
        *(rule(p, steps["this"]) for p in _around(words.this_before, unit, "")),
    ]


def _beside(words: DateWords, months: Mapping[str, int], days: Mapping[str, int]) -> list[Rule]:
    """ "last Friday", "next March", "this Sunday"."""
    weekday = rf"(?P<weekday>{_any(days)})"
    month = rf"(?P<month>{_any(_spelled_out(months))})"

    def on_weekday(tense: Tense) -> Resolver:
        return lambda m, base, _: values.weekday(base, days[m["weekday"].lower()], tense)

    def in_month(tense: Tense) -> Resolver:
        return lambda m, base, _: values.month_beside(base, months[m["month"].lower()], tense)

    def this_weekday(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.weekday_here(base, days[m["weekday"].lower()])

    before_after: list[tuple[Tense, str, str]] = [
        ("past", words.past_before, words.past_after),
        ("future", words.next_before, words.next_after),
    ]
    return [
        *(
            Rule(_compile(p), make(tense), needs)
            for tense, before, after in before_after
            for named, make, needs in (
                (weekday, on_weekday, _WEEKDAY),
                (month, in_month, _MONTH),
            )
            for p in _around(before, named, after)
        ),
        *(
            Rule(_compile(p), this_weekday, _WEEKDAY)
            for p in _around(words.this_before, weekday, "")
        ),
    ]


def _named_day(words: DateWords, phrase: str, offset: int) -> Rule:
    return Rule(
        _compile(phrase),
        lambda m, base, tense: values.shifted(base, "day", offset),
        _TIME,
        _told_by(words, [phrase]),
    )


def _words_of_units(words: DateWords, forms: Mapping[str, str]) -> frozenset[str]:
    """Which triggers are units of time: "days", but not "yesterday"."""
    return _told_by(words, list(forms.values()))


def _told_by(words: DateWords, patterns: Sequence[str]) -> frozenset[str]:
    """The triggers that fragments of patterns are spelled with; none where one of their
    alternatives has no trigger of its own, so that any would do."""
    triggers = words.triggers.split()
    found: set[str] = set()
    for alternative in _OUTER_BAR.split("|".join(patterns)):
        pieces = [re.compile(piece) for piece in _PIECE.findall(alternative)]
        own = {word for word in triggers if any(piece.fullmatch(word) for piece in pieces)}
        if not own:
            return frozenset()
        found |= own
    return frozenset(found)


def _lone(words: DateWords, months: Mapping[str, int], days: Mapping[str, int]) -> list[Rule]:
    """A weekday, "in March", "since 2019", "summer 2019", with nothing beside them."""
    season = "|".join(words.seasons.split())
    long_days = {name: index for name, index in days.items() if len(name) > 5 or name in _SHORT}
    long_months = _any(_spelled_out(months))

    def weekday(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.weekday(base, days[m["weekday"].lower()], tense)

    def in_month(m: re.Match[str], base: date, tense: Tense) -> str | None:
        name = m["month"]
        if name.islower() and name in words.months_need_capital.split():
            return None
        return values.month_without_year(base, months[name.lower()], tense)

    def year(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return m["year"]

    return [
        Rule(_compile(rf"(?P<weekday>{_any(long_days)})"), weekday, _WEEKDAY),
        Rule(
            _compile(rf"(?<!\w)(?:{words.month_after}) (?P<month>{long_months})"), in_month, _MONTH
        ),
        Rule(
            _compile(rf"(?:{season})(?: of| de| del| do)? {_YEAR}(?!\s?[%€$]|\w|[.,]\d)"),
            year,
            _FULL_YEAR,
        ),
        Rule(
            _compile(
                rf"(?:{words.year_after}) {_YEAR}(?!\s?[%€$]|[.,:]?\d|[-/]\d|\s+[^\W\d_]{{3,}}s\b)"
            ),
            year,
            _FULL_YEAR,
        ),
    ]


def _triggers(words: DateWords) -> dict[str, Trigger]:
    kinds: list[tuple[Trigger, str]] = [
        ("time", words.triggers),
        ("month", " ".join(words.months)),
        ("weekday", " ".join(words.weekdays)),
    ]
    return {name: kind for kind, names in kinds for name in re.split(r"[ |]", names)}


def _around(before: str, middle: str, after: str) -> list[str]:
    forms = []
    if before:
        forms.append(rf"(?:{before}) {middle}")
    if after:
        forms.append(rf"{middle} (?:{after})")
    return forms


def _units(forms: Mapping[str, str]) -> str:
    return "(?:" + "|".join(f"(?P<{unit}>{form})" for unit, form in forms.items()) + ")"


def _unit(match: re.Match[str]) -> Unit:
    named = match.groupdict()
    units = ("day", "week", "weekend", "month", "year")
    return cast("Unit", next(unit for unit in units if named.get(unit)))


def _spelled_out(months: Mapping[str, int]) -> dict[str, int]:
    """Without abbreviations: "in mar" is no month. May is short in every language."""
    return {name: number for name, number in months.items() if len(name) > 3 or number == 5}


def _gap_then(words: str) -> str:
    """Spaces with an optional word or comma between."""
    if not words:
        return r" {1,2}"
    return rf"(?: {{0,2}}(?:{words}))? {{1,2}}"


def _any(names: Mapping[str, int]) -> str:
    """Alternatives, longest first, so that "sept" does not end at "sep"."""
    return "|".join(
        re.escape(name).replace(r"\ ", " ") for name in sorted(names, key=len, reverse=True)
    )


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w/])(?:{pattern})(?!\w)", re.IGNORECASE)
