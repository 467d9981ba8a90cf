"""The times that a question names, as intervals of days.

A question asks for a stretch of time where a text names its end: "since Monday" is every day from
Monday to today, "after 10 November" the days after it, "in the last two weeks" the days up to
today. "Before 10 November" has no first day, and no interval.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from luma_memory.providers.completion.extract import date_values as values
from luma_memory.providers.completion.extract.date_mention import Mention
from luma_memory.providers.completion.extract.date_rule import any_of
from luma_memory.providers.completion.extract.date_values import Unit
from luma_memory.providers.completion.extract.document import Document
from luma_memory.providers.completion.extract.vocabulary import vocabulary

_UNITS: tuple[Unit, ...] = ("day", "week", "month", "year")
_BEFORE_CHARS = 24


@dataclass(frozen=True, slots=True)
class NamedDays:
    """From `first` to `last`, both included; `mention` is where the question names them."""

    first: date
    last: date
    mention: Mention


def named_days(document: Document, mentions: Sequence[Mention], today: date) -> Sequence[NamedDays]:
    """In order of appearance. mentions: the dates of the question, resolved on `today`."""
    last_days = list(_last_days(document, today))
    found = list(last_days)
    for mention in mentions:
        if mention.value is None or any(_overlap(mention, days.mention) for days in last_days):
            continue
        if days := _around(document, mention, today):
            found.append(days)
    return sorted(found, key=lambda days: days.mention.start)


def _around(document: Document, mention: Mention, today: date) -> NamedDays | None:
    """The days of a mention, by the word before it: "since", "after", "before"."""
    first, last = bounds(mention.value or "")
    sides = _sides(document.language)
    before = document.text[max(0, mention.start - _BEFORE_CHARS) : mention.start].lower()
    side = sides.get(_last_words(before, sides))
    is_numbered = any(character.isdigit() for character in mention.name)
    if side is None and not (is_numbered or _is_counted_or_named(mention.name, document.language)):
        # A feast is named with its preposition ("since Christmas"); "dal 3 al 9 marzo" is a span.
        side = sides.get(_first_words(mention.name, sides))
    if side == "before":
        return None
    if side == "since":
        return NamedDays(first, max(today, last), mention)
    if side == "after":
        return NamedDays(last + timedelta(days=1), today, mention) if last < today else None
    return NamedDays(first, last, mention)


def _last_words(text: str, sides: dict[str, str]) -> str:
    return next((words for words in sides if re.search(rf"(?<!\w){words}\s+$", text)), "")


def _first_words(text: str, sides: dict[str, str]) -> str:
    lowered = text.lower()
    return next((words for words in sides if lowered.startswith(f"{words} ")), "")


def _is_counted_or_named(name: str, language: str) -> bool:
    """ "vor drei Tagen", "antes de ayer": the preposition is a part of the day's own name."""
    pattern = _counted_or_named(language)
    return pattern is not None and pattern.search(name) is not None


@cache
def _counted_or_named(language: str) -> re.Pattern[str] | None:
    words = vocabulary(language).dates
    if words is None:
        return None
    units = rf"(?<!\w)(?:{'|'.join([*words.units.values(), *words.unit.values()])})(?!\w)"
    days = rf"\A(?:{'|'.join(day.phrase for day in words.days)})\Z"
    return re.compile(rf"{units}|{days}", re.IGNORECASE)


@cache
def _sides(language: str) -> dict[str, str]:
    """Each preposition with the side of the time on which the days lie; longest first."""
    words = vocabulary(language).dates
    if words is None:
        return {}
    named = {"since": words.since, "after": words.after, "before": words.before}
    found = {word: side for side, text in named.items() for word in text.split("|") if word}
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def _last_days(document: Document, today: date) -> Iterator[NamedDays]:
    """ "the last two weeks", "los últimos tres días": up to today."""
    pattern = _last_days_pattern(document.language)
    words = vocabulary(document.language).dates
    if pattern is None or words is None:
        return
    for match in pattern.finditer(document.text):
        text = " ".join(match["n"].lower().split())
        count = int(text) if text.isdecimal() else words.numerals[text]
        unit = next(unit for unit in _UNITS if match[unit])
        first = values.shifted_to_the_day(today, unit, -count) or values.shifted(
            today, unit, -count
        )
        if count > 0 and first is not None:
            mention = Mention(match[0], match.start(), match.end(), None)
            yield NamedDays(bounds(first)[0], today, mention)


@cache
def _last_days_pattern(language: str) -> re.Pattern[str] | None:
    words = vocabulary(language).dates
    if words is None or not words.last_before:
        return None
    numerals = {name: n for name, n in words.numerals.items() if n > 1}
    number = rf"(?P<n>\d{{1,3}}|{any_of(numerals)})"
    unit = "(?:" + "|".join(f"(?P<{unit}>{words.units[unit]})" for unit in _UNITS) + ")"
    # "the last two weeks", "les deux dernières semaines"
    orders = [rf"(?:{words.last_before}) {number} {unit}"]
    if words.last_between:
        orders.append(rf"{number} (?:{words.last_between}) {unit}")
    return re.compile("|".join(rf"(?<![\w/]){order}(?!\w)" for order in orders[-1:]), re.IGNORECASE)


def _overlap(one: Mention, other: Mention) -> bool:
    return one.start < other.end and other.start < one.end


def bounds(value: str) -> tuple[date, date]:
    """The first and the last day of an ISO day, month, year, or interval (`date_values`)."""
    first, _, last = value.partition("/")
    return _first_day(first), _last_day(last or first)


def _first_day(value: str) -> date:
    parts = [int(part) for part in value.split("-")]
    return date(parts[0], *[*parts[1:], 1, 1][:2])


def _last_day(value: str) -> date:
    match [int(part) for part in value.split("-")]:
        case [year]:
            return date(year, 12, 31)
        case [year, month]:
            return date.fromisoformat(values.last_day(year, month) or f"{value}-28")
        case parts:
            return date(*parts)
