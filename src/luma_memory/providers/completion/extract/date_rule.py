"""The rules of the date grammar, and fragments of patterns that several rules share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from luma_memory.providers.completion.extract.date_values import Tense

DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])"
YEAR_OF_FOUR = r"(?P<year>(?:19|20)\d\d)"
YEAR = re.compile(r"(?:19|20)\d\d")

# (match, day the text was written, tense of its sentence) to ISO 8601, or None if it is not a date.
Resolver = Callable[[re.Match[str], date, Tense], str | None]

# What a form requires: a digit, a year of four, a month's name, a weekday's, another word
# of time.
Trigger = Literal["digit", "year", "month", "weekday", "time"]
DIGIT: frozenset[Trigger] = frozenset({"digit"})
FULL_YEAR: frozenset[Trigger] = frozenset({"year"})
MONTH: frozenset[Trigger] = frozenset({"month"})
WEEKDAY: frozenset[Trigger] = frozenset({"weekday"})
TIME: frozenset[Trigger] = frozenset({"time"})


# Between the alternatives of a fragment, and not of a group in it.
OUTER_BAR: Final = re.compile(r"\|(?![^(]*\))")


@dataclass(frozen=True, slots=True)
class Rule:
    """One form. A match of a rule with `vague` is meant as a date even if it cannot be
    resolved: no other rule reads a part of it. One with `may_be_name` is a single word that names
    other things as well (`date_names`). One with `needs_tense` has no value in a sentence that
    does not show on which side of its writing the day lies.
    """

    pattern: re.Pattern[str]
    resolve: Resolver
    needs: frozenset[Trigger]
    words: frozenset[str] = frozenset()  # one of which is required as well, if there are any
    parts: Sequence[str] = ()  # the same of parts of the text, in lower case
    vague: bool = False
    may_be_name: bool = False
    needs_tense: bool = False


def compiled(pattern: str) -> re.Pattern[str]:
    """Whole words, not inside a path or the name of a host ("monday.com")."""
    return re.compile(
        rf"(?<![\w/])(?<!\w\.)(?:{pattern})(?!\w|\.[a-z]{{2,}}(?:\W|$))", re.IGNORECASE
    )


def around(before: str, middle: str, after: str) -> list[str]:
    """The forms with the words before the middle and with those after it, if there are any."""
    forms = []
    if before:
        forms.append(rf"(?:{before}) {middle}")
    if after:
        forms.append(rf"{middle} (?:{after})")
    return forms


def gap_then(words: str) -> str:
    """Spaces with an optional word or comma between."""
    if not words:
        return r" {1,2}"
    return rf"(?: {{0,2}}(?:{words}))? {{1,2}}"


def any_of(names: Mapping[str, int]) -> str:
    """Alternatives, longest first, so that "sept" does not end at "sep"."""
    return "|".join(
        re.escape(name).replace(r"\ ", " ") for name in sorted(names, key=len, reverse=True)
    )


def month_number(name: str, months: Mapping[str, int], need_capital: str) -> int | None:
    """None for a word with another meaning in lower case: "may", "march"."""
    if name.islower() and name in need_capital.split():
        return None
    return months.get(name.lower())
