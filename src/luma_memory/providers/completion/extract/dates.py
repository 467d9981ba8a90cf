"""Dates a text mentions, resolved against the day it was written.

Languages with a vocabulary are read by `date_grammar`, all others by dateparser. A date without a
year or a direction ("Friday", "on 3 March") lies in the past unless its sentence speaks of the
future: people tell what happened. The day of `occurred_at` is the one of its own time zone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice

from luma_memory.providers.completion.extract import foreign_dates
from luma_memory.providers.completion.extract.date_grammar import (
    YEAR,
    Grammar,
    Rule,
    Trigger,
    grammar,
)
from luma_memory.providers.completion.extract.date_values import Tense
from luma_memory.providers.completion.extract.document import MAX_SENTENCES, Document
from luma_memory.providers.completion.extract.text import one_line

MAX_DATES = 40
# Bounds for a text of nothing but dates: matches looked at, and how far around one for its tense.
MAX_MATCHES = 200
TENSE_CHARS = 160

_DIGIT = re.compile(r"\d")
_LAST_WORD = re.compile(r"(\w+)\s+(?:\w+\s+)?$")


@dataclass(frozen=True, slots=True)
class Mention:
    """A date as it is written, at [start, end) of the text; `value` is ISO 8601 (`date_values`)."""

    name: str
    start: int
    end: int
    value: str | None  # None: meant, but not to be told ("a few days ago")


def dates(document: Document, occurred_at: datetime) -> list[Mention]:
    """Mentions in order of appearance, none overlapping."""
    rules = grammar(document.language)
    if rules is None:
        return foreign_dates.dates(document, occurred_at, make=Mention)[:MAX_DATES]
    return sorted(_chosen(document, rules, occurred_at.date()), key=lambda m: m.start)[:MAX_DATES]


def _applicable(document: Document, rules: Grammar) -> Iterator[Rule]:
    """Rules that have what they need: three turns in four hold neither a digit nor a word of time,
    and cost nothing more.

    A text too long to be read to its end may hold anything behind it.
    """
    if len(document.sentences) >= MAX_SENTENCES:
        yield from rules.rules
        return
    kinds = rules.triggers
    words = {word.base for word in document.words if word.base in kinds}
    there: set[Trigger] = {kinds[word] for word in words}
    if _DIGIT.search(document.text) is not None:
        there.add("digit")
        if YEAR.search(document.text) is not None:
            there.add("year")
    if not there:
        return
    for rule in rules.rules:
        if rule.needs <= there and (not rule.words or not rule.words.isdisjoint(words)):
            yield rule


def _chosen(document: Document, rules: Grammar, base: date) -> list[Mention]:
    """Matches of all rules; where two overlap, the earlier rule's stands."""
    taken = bytearray(len(document.text))
    found: list[Mention] = []
    for mention in islice(_candidates(document, rules, base), MAX_MATCHES):
        if any(taken[mention.start : mention.end]):
            continue
        taken[mention.start : mention.end] = b"\1" * (mention.end - mention.start)
        found.append(mention)
    return found


def _candidates(document: Document, rules: Grammar, base: date) -> Iterator[Mention]:
    text = document.text
    for rule in _applicable(document, rules):
        for match in rule.pattern.finditer(text):
            if _repeated(text, match.start(), rules):
                continue
            value = rule.resolve(match, base, _tense(document, match.start(), rules))
            if value is not None or rule.vague:
                yield Mention(one_line(match[0]), match.start(), match.end(), value)


def _repeated(text: str, start: int, rules: Grammar) -> bool:
    """ "every Friday" names no day."""
    before = _LAST_WORD.search(text, max(0, start - 24), start)
    if before is None:
        return False
    return not rules.every.isdisjoint(before[0].lower().split())


def _tense(document: Document, place: int, rules: Grammar) -> Tense:
    index = bisect_right(document.sentences, place, key=lambda sentence: sentence.start) - 1
    sentence = document.sentences[max(index, 0)]
    start = max(sentence.start, place - TENSE_CHARS)
    end = min(sentence.end, place + TENSE_CHARS)
    return "future" if rules.future.search(document.text, start, end) else "past"
