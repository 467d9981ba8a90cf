"""Weekdays beside what places them: "the last Friday of March", "Friday the 13th"."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping
from datetime import date, timedelta

from luma_memory.providers.completion.extract import date_values as values
from luma_memory.providers.completion.extract.date_rule import (
    DAY,
    DIGIT,
    MONTH,
    WEEKDAY,
    YEAR_OF_FOUR,
    Rule,
    any_of,
    around,
    compiled,
    gap_then,
    month_number,
)
from luma_memory.providers.completion.extract.date_values import Tense
from luma_memory.providers.completion.extract.vocabulary import DateWords

# How far a weekday with the number of its day is looked for: three "Friday the 13th" a year at
# most, and at least one.
_MONTHS_MAX = 14


def weekday_rules(
    words: DateWords, months: Mapping[str, int], weekdays: Mapping[str, int]
) -> list[Rule]:
    """Rules that are tried before those of a weekday alone."""
    return [
        *_of_month(words, months, weekdays),
        *_before_a_date(words, months, weekdays),
        *_before_a_slash(words, weekdays),
        *_before_last(words, weekdays),
        *_with_number(words, weekdays),
    ]


def _of_month(
    words: DateWords, months: Mapping[str, int], weekdays: Mapping[str, int]
) -> list[Rule]:
    """ "the 2nd Monday of May 2026", "the last Friday in March"."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = months[m["month"].lower()]
        count = words.weekday_ordinals[m["count"].lower()]
        weekday = weekdays[m["weekday"].lower()]
        if m["year"]:
            return _nth(int(m["year"]), number, weekday, count)
        here = _nth(base.year, number, weekday, count)
        if here is None:
            return None
        if tense == "past" and here > base.isoformat():
            # Of this month it is rather the one to come, of which no word is needed.
            return None if number == base.month else _nth(base.year - 1, number, weekday, count)
        if tense == "future" and here < base.isoformat():
            return _nth(base.year + 1, number, weekday, count)
        return here

    if not words.weekday_ordinals:
        return []
    pattern = (
        rf"(?P<count>{any_of(words.weekday_ordinals)}) (?P<weekday>{any_of(weekdays)}) "
        rf"(?:{words.of_month}) ?(?P<month>{any_of(months)})\b"
        rf"(?:,? (?:of |de |del )?{YEAR_OF_FOUR})?"
    )
    # "the second Friday in a row", "the last Friday of the month"
    counts = {name: n for name, n in words.weekday_ordinals.items() if n > 0}
    units = "|".join(words.unit.values())
    ordinals = rf"(?:{any_of(words.weekday_ordinals)})"
    others = [
        rf"(?:{any_of(counts)}) (?:{any_of(weekdays)})",
        rf"{ordinals} (?:{any_of(weekdays)}) (?:{words.of_month}) (?:\w+ )?(?:{units})",
    ]
    return [
        Rule(compiled(pattern), resolve, WEEKDAY | MONTH, vague=True),
        *(Rule(compiled(other), _without_value, WEEKDAY, vague=True) for other in others),
    ]


def _without_value(m: re.Match[str], base: date, tense: Tense) -> str | None:
    return None


def _before_a_date(
    words: DateWords, months: Mapping[str, int], weekdays: Mapping[str, int]
) -> list[Rule]:
    """ "Monday, March 16": no date of its own; the weekday decides a missing year."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        named = m.groupdict()
        number = (
            int(named["number"])
            if named.get("number")
            else month_number(named["month"], months, words.months_need_capital)
        )
        if number is None:
            return None
        if m["year"]:
            return values.day(int(m["year"]), number, int(m["day"]))
        near = [values.day(base.year + n, number, int(m["day"])) for n in (-1, 0, 1)]
        index = weekdays[m["weekday"].lower()]
        found = [day for day in near if day and date.fromisoformat(day).weekday() == index]
        return found[0] if len(found) == 1 else None

    weekday = rf"(?P<weekday>{any_of(weekdays)})\.?,? (?:(?:the|{words.weekday_number or 'the'}) )?"
    month = rf"(?P<month>{any_of(months)})\b\.?"
    suffix = rf"(?:{words.day_suffix})?"
    year = rf"(?:,?{gap_then(words.between_month_and_year)}{YEAR_OF_FOUR})?"
    forms = [
        (rf"{weekday}{DAY}{suffix}{gap_then(words.between_day_and_month)}{month}{year}", MONTH),
        (
            rf"{weekday}{DAY}\.(?P<number>\d\d?)\.(?:{YEAR_OF_FOUR})?",
            DIGIT,
        ),
    ]
    if words.order == "mdy":
        forms.append(
            (rf"{weekday}{month} (?:the )?{DAY}{suffix}(?:,? {{1,2}}{YEAR_OF_FOUR})?", MONTH)
        )
    return [
        Rule(compiled(rf"{form}(?![\w:])"), resolve, WEEKDAY | needs, vague=True)
        for form, needs in forms
    ]


def _before_a_slash(words: DateWords, weekdays: Mapping[str, int]) -> list[Rule]:
    """ "Friday 3/13": the weekday decides year and order; otherwise nothing is read."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        first, second, index = int(m["a"]), int(m["b"]), weekdays[m["weekday"].lower()]
        days = {
            values.day(base.year + n, month, day)
            for n in (-1, 0, 1)
            for month, day in ((first, second), (second, first))
        }
        found = [day for day in days if day and date.fromisoformat(day).weekday() == index]
        return found[0] if len(found) == 1 else None

    pattern = rf"(?P<weekday>{any_of(weekdays)})\.?,? (?P<a>\d\d?)/(?P<b>\d\d?)(?![\w/])"
    return [Rule(compiled(pattern), resolve, WEEKDAY | DIGIT, vague=True)]


def _nth(year: int, month: int, weekday: int, count: int) -> str | None:
    """The count-th such weekday of a month; -1 is its last one."""
    if not 1 <= year <= 9999:
        return None
    if count < 0:
        last = date(year, month, monthrange(year, month)[1])
        return (last - timedelta(days=(last.weekday() - weekday) % 7)).isoformat()
    first = date(year, month, 1)
    return values.day(year, month, 1 + (weekday - first.weekday()) % 7 + 7 * (count - 1))


def _before_last(words: DateWords, weekdays: Mapping[str, int]) -> list[Rule]:
    """ "the Monday before last", "two Mondays ago": of which week is a matter of habit."""

    name = rf"(?:{any_of(weekdays)})"
    forms = around(words.before_last_before, name, words.before_last_after)
    forms += around(words.after_next_before, name, words.after_next_after)
    return [Rule(compiled(form), _without_value, WEEKDAY, vague=True) for form in forms]


def _with_number(words: DateWords, weekdays: Mapping[str, int]) -> list[Rule]:
    """ "Friday the 13th", "Montag, der 16.": the nearest one on the side of the tense."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        if m.string[m.start() - 1 : m.start()] in {'"', "“", "„", "«", "'", "‘"}:
            return None  # a title
        index, number = weekdays[m["weekday"].lower()], int(m["day"])
        step = -1 if tense == "past" else 1
        for away in range(_MONTHS_MAX):
            year, month = divmod(base.year * 12 + base.month - 1 + step * away, 12)
            found = values.day(year, month + 1, number) if 1 <= year <= 9999 else None
            if found is None or date.fromisoformat(found).weekday() != index:
                continue
            if (found <= base.isoformat()) if tense == "past" else (found >= base.isoformat()):
                return found
        return None

    if not words.weekday_number:
        return []
    suffix = rf"(?:{words.day_suffix})" if words.day_suffix else ""
    pattern = (
        rf"(?P<weekday>{any_of(weekdays)}),? (?:{words.weekday_number}) {DAY}{suffix}"
        rf"(?! (?:{words.of_month or '(?!)'})\b)(?! ?\w)"
    )
    return [Rule(compiled(pattern), resolve, WEEKDAY | DIGIT, vague=True)]
