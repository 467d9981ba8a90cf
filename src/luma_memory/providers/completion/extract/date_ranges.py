"""Spans of days, months and years: "from 24 to 26 July", "2026-07-25/26", "Q3 2025".

An impossible span ("from 26 to 24 July") still counts as one, without a value, so that no part
of it is taken for a day.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from luma_memory.providers.completion.extract import date_values as values
from luma_memory.providers.completion.extract.date_rule import (
    DIGIT,
    FULL_YEAR,
    MONTH,
    WEEKDAY,
    Resolver,
    Rule,
    any_of,
    compiled,
    gap_then,
    month_number,
)
from luma_memory.providers.completion.extract.date_values import Tense
from luma_memory.providers.completion.extract.vocabulary import DateWords

_YEAR = r"(?:19|20)\d\d"
_DASH = r" ?[-–—] ?"
# What is counted by a number that looks like a year: "between 1900 and 2000 people".
_THINGS = (
    r"people|children|persons?|personen|leute|personas|personnes|persone|pessoas|mensen|euros?"
    r"|dollars?|pounds|metres|meters?|metros|mètres|metri|km|m|kg|g|steps|calories|kcal|words"
    r"|items|users|rows|points|[^\W\d_]{4,}s"
)


def range_rules(
    words: DateWords, months: Mapping[str, int], weekdays: Mapping[str, int]
) -> list[Rule]:
    """Rules that are tried before those of single days."""
    return [
        _iso_range(),
        *_ranges_in_a_month(words, months),
        *_ranges_over_months(words, months),
        *_ranges_of_years(words),
        *_parts_of_a_year(words),
        *_numeric_ranges(words),
        *_weekday_ranges(words, weekdays),
    ]


def _numeric_ranges(words: DateWords) -> list[Rule]:
    """ "03.03.2026 - 05.03.2026", "vom 28.2. bis 2.3.2026": day first, as with every dot."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        first, last = ((int(m[f"month{n}"]), int(m[f"day{n}"])) for n in (1, 2))
        if m["year1"]:
            return _span(values.day(int(m["year1"]), *first), values.day(int(m["year2"]), *last))
        return _days(base, tense, m["year2"], first, last)

    one = rf"(?P<day1>\d{{1,2}})\.(?P<month1>\d{{1,2}})\.(?P<year1>{_YEAR})?"
    two = rf"(?P<day2>\d{{1,2}})\.(?P<month2>\d{{1,2}})\.(?P<year2>{_YEAR})"
    return [
        Rule(compiled(rf"{span}(?![\d.]\d)"), resolve, FULL_YEAR, vague=True)
        for span in _from_to(words, one, two)
    ]


def _weekday_ranges(words: DateWords, weekdays: Mapping[str, int]) -> list[Rule]:
    """ "from Monday to Wednesday"."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        first = values.weekday(base, weekdays[m["weekday"].lower()], tense)
        if first is None:
            return None
        name = m["weekday2"].lower()
        if name == words.today:
            return _span(first, base.isoformat())
        last = values.weekday(date.fromisoformat(first), weekdays[name], "future")
        if tense == "past" and last is not None and last > base.isoformat():
            return None
        return _span(first, last)

    today = f"|{words.today}" if words.today else ""
    first, last = rf"(?P<weekday>{any_of(weekdays)})", rf"(?P<weekday2>{any_of(weekdays)}{today})"
    certain, bare = _from_to(words, first, last)

    def without_value(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return None

    return [
        Rule(compiled(certain), resolve, WEEKDAY, vague=True),
        # "Monday to Friday, 9 to 5" is every week.
        Rule(compiled(bare), without_value, WEEKDAY, vague=True),
    ]


def _iso_range() -> Rule:
    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        year, month = int(m["year"]), int(m["month"])
        first = values.day(year, month, int(m["day"]))
        last = values.day(int(m["year2"] or year), int(m["month2"] or month), int(m["day2"]))
        return _span(first, last)

    number = r"\d\d"
    pattern = (
        rf"(?P<year>{_YEAR})-(?P<month>{number})-(?P<day>{number})(?:/|--|\.\.| ?– ?| to | - )"
        rf"(?:(?:(?P<year2>{_YEAR})-)?(?P<month2>{number})-)?(?P<day2>{number})(?![\d:/-])"
    )
    return Rule(compiled(pattern), resolve, FULL_YEAR, vague=True)


def _ranges_in_a_month(words: DateWords, months: Mapping[str, int]) -> list[Rule]:
    """Both days in one month: "from 5 to 8 March 2026", "July 24-26"."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = month_number(m["month"], months, words.months_need_capital)
        if number is None:
            return None
        return _days(base, tense, m["year"], (number, int(m["day"])), (number, int(m["day2"])))

    name, year = _name(months, "month"), _optional_year(words)
    first, last = _day(words, "day"), _day(words, "day2")
    gap = gap_then(words.between_day_and_month)
    forms = [f"{span}{gap}{name}\\b{year}" for span in _from_to(words, first, last)]
    if words.order == "mdy":
        forms.append(
            rf"(?:(?:{words.range_from}) )?{name}\b\.? {{1,2}}{first}"
            rf"(?:{_DASH}| (?:{words.range_to}) ){last}(?:,? {{1,2}}(?P<year>{_YEAR}))?"
        )
    return [_rule(form, resolve) for form in forms]


def _ranges_over_months(words: DateWords, months: Mapping[str, int]) -> list[Rule]:
    """ "from 28 July to 3 August", "from March to May 2025"."""

    def numbers(m: re.Match[str]) -> tuple[int | None, int | None]:
        need = words.months_need_capital
        return month_number(m["month"], months, need), month_number(m["month2"], months, need)

    def days(m: re.Match[str], base: date, tense: Tense) -> str | None:
        first, last = numbers(m)
        if first is None or last is None:
            return None
        days = (first, int(m["day"])), (last, int(m["day2"]))
        if m["year1"] and m["year"]:
            return _span(
                values.day(int(m["year1"]), *days[0]), values.day(int(m["year"]), *days[1])
            )
        return _days(base, tense, m["year"], *days)

    def whole(m: re.Match[str], base: date, tense: Tense) -> str | None:
        first, last = numbers(m)
        if first is None or last is None:
            return None
        return _months(base, tense, m["year"], first, last)

    gap, year = gap_then(words.between_day_and_month), _optional_year(words)
    names = _name(months, "month"), _name(months, "month2")
    numbered = _day(words, "day"), _day(words, "day2")
    first, last = (rf"{day}{gap}{name}\b\.?" for day, name in zip(numbered, names, strict=True))
    first += rf"(?:{gap_then(words.between_month_and_year)}(?P<year1>{_YEAR}))?"
    forms = [(f"{span}{year}", days) for span in _from_to(words, first, last)]
    if words.order == "mdy":
        first, last = (
            rf"{name}\b\.? {{1,2}}{day}" for day, name in zip(numbered, names, strict=True)
        )
        first += rf"(?:,? {{1,2}}(?P<year1>{_YEAR}))?"
        comma_year = rf"(?:,? {{1,2}}(?P<year>{_YEAR}))?"
        forms += [(f"{span}{comma_year}", days) for span in _from_to(words, first, last)]
    months_only = rf"{names[0]}\b (?:{words.range_to}) {names[1]}\b"
    forms.append((rf"(?:{words.range_from}) {months_only}{year}", whole))
    with_year = rf"{names[0]}{_DASH}{names[1]}\b\.?(?:{gap_then(words.between_month_and_year)})"
    forms.append((rf"{with_year}(?P<year>{_YEAR})", whole))
    return [_rule(form, resolve, needs_digit=resolve is days) for form, resolve in forms]


def _ranges_of_years(words: DateWords) -> list[Rule]:
    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return _span(values.day(int(m["year"]), 1, 1), values.day(int(m["year2"]), 12, 31))

    pattern = (
        rf"(?:{words.range_from}) (?P<year>{_YEAR})(?:{_DASH}| (?:{words.range_to}) )"
        rf"(?P<year2>{_YEAR})(?![\d:-])"
    )
    of_things = rf"{pattern}(?=\s?[%€$£]|\s+(?:{_THINGS})\b)"
    return [
        Rule(compiled(of_things), lambda m, base, tense: None, FULL_YEAR, vague=True),
        Rule(compiled(pattern), resolve, FULL_YEAR, vague=True),
    ]


def _parts_of_a_year(words: DateWords) -> list[Rule]:
    """Quarters and halves: "Q3 2025", "2025-Q3", "H1 2026", "third quarter of 2025"."""

    def quarter(m: re.Match[str], base: date, tense: Tense) -> str | None:
        named = m.groupdict().get("named")
        number = words.quarters[named.lower()] if named else int(m["part"])
        return _part(int(m["year"]), number, 3)

    def half(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return _part(int(m["year"]), int(m["part"]), 6)

    def half_named(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = words.quarters[m["named"].lower()]
        return _part(int(m["year"]), number, 6) if number <= 2 else None

    year = rf"(?P<year>{_YEAR})(?![\d:/-])"
    forms: list[tuple[str, Resolver]] = [
        (rf"[QT](?P<part>[1-4])(?: ?/ ?|[ -]| of | de )?{year}", quarter),
        (rf"(?P<year>{_YEAR})[ /-]?Q(?P<part>[1-4])", quarter),
        (rf"H(?P<part>[12])(?: ?/ ?|[ -]| of )?{year}", half),
    ]
    if words.quarters:
        named = rf"(?P<named>{any_of(words.quarters)})"
        forms.append((rf"{named} (?:{words.quarter}) {year}", quarter))
        if words.halves:
            forms.append((rf"{named} (?:{words.halves}) {year}", half_named))
    return [Rule(compiled(form), resolve, FULL_YEAR) for form, resolve in forms]


def _part(year: int, number: int, length: int) -> str | None:
    """The `number`th part (from 1) of a year cut into parts of so many months."""
    first = (number - 1) * length + 1
    return _whole_months((year, first), (year, first + length - 1))


def _from_to(words: DateWords, first: str, last: str) -> list[str]:
    """The span with its words ("from … to …") or with a dash."""
    to = rf"(?:{words.range_to})(?: |(?<=['’]))"  # "dal 3 all'8 marzo"
    return [
        rf"(?:{words.range_from}) {first}(?:{_DASH}| {to}){last}",
        rf"{first}(?:{_DASH}| (?:{words.range_bare}) ){last}",
    ]


def _rule(form: str, resolve: Resolver, *, needs_digit: bool = True) -> Rule:
    needs = MONTH | DIGIT if needs_digit else MONTH
    return Rule(compiled(rf"{form}(?![\w:])"), resolve, needs, vague=True)


def _name(months: Mapping[str, int], group: str) -> str:
    return rf"(?P<{group}>{any_of(months)})"


def _day(words: DateWords, group: str) -> str:
    return rf"(?:the )?(?P<{group}>0?[1-9]|[12]\d|3[01])(?:{words.day_suffix})?"


def _optional_year(words: DateWords) -> str:
    return rf"(?:\.?{gap_then(words.between_month_and_year)}(?P<year>{_YEAR}))?"


def _days(
    base: date, tense: Tense, year: str | None, first: tuple[int, int], last: tuple[int, int]
) -> str | None:
    """From (month, day) to (month, day). A year that is given is the last day's."""
    turns = first > last
    if year:
        end = int(year)
        return _span(values.day(end - turns, *first), values.day(end, *last))
    if first[0] == last[0] and turns:
        return None
    if tense == "past":
        start = values.day_without_year(base, *first, tense)
        return _span(start, start and values.day(int(start[:4]) + turns, *last))
    stop = values.day_without_year(base, *last, tense)
    return _span(stop and values.day(int(stop[:4]) - turns, *first), stop)


def _months(base: date, tense: Tense, year: str | None, first: int, last: int) -> str | None:
    turns = first > last
    if year:
        return _whole_months((int(year) - turns, first), (int(year), last))
    if tense == "past":
        start = values.month_without_year(base, first, tense)
        return start and _whole_months((int(start[:4]), first), (int(start[:4]) + turns, last))
    stop = values.month_without_year(base, last, tense)
    return stop and _whole_months((int(stop[:4]) - turns, first), (int(stop[:4]), last))


def _whole_months(first: tuple[int, int], last: tuple[int, int]) -> str | None:
    return _span(values.day(*first, 1), values.last_day(*last))


def _span(first: str | None, last: str | None) -> str | None:
    return f"{first}/{last}" if first and last and first <= last else None
