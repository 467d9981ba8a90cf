"""Dates a text mentions, resolved against the day it was written.

Languages with a vocabulary are read by `date_grammar`, all others by dateparser. A date without a
year or a direction ("Friday", "on 3 March") lies where its sentence shows. Without a sign of either
side, a weekday is not read, and a day of the year is the past one if that is the nearer. The day
of `occurred_at` is the one of its own time zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Literal

from luma_memory.providers.completion.extract import foreign_dates
from luma_memory.providers.completion.extract.date_context import in_context
from luma_memory.providers.completion.extract.date_grammar import Grammar, grammar
from luma_memory.providers.completion.extract.date_mention import Mention
from luma_memory.providers.completion.extract.date_names import is_name
from luma_memory.providers.completion.extract.date_phrases import together
from luma_memory.providers.completion.extract.date_rule import YEAR, Rule, Trigger
from luma_memory.providers.completion.extract.document import MAX_SENTENCES, Document
from luma_memory.providers.completion.extract.text import one_line

# "unproven": no word of the sentence shows on which side of its writing a day lies.
_Tense = Literal["past", "future", "present", "unproven"]

MAX_DATES = 40
# Bounds for a text of dates only: matches examined, and characters around each read for its tense.
MAX_MATCHES = 400
TENSE_CHARS = 160

_DAY_LENGTH = len("2026-03-11")
_DIGIT = re.compile(r"\d")
_FIRST_WORD = re.compile(r"\w+")
_LAST_WORD = re.compile(r"(\w+)\s+(?:\w+\s+)?$")


def dates(document: Document, occurred_at: datetime, *, is_question: bool = False) -> list[Mention]:
    """Mentions in order of appearance, none overlapping.

    is_question: days without a direction lie in the past, which questions concern; a text must
    show it for the days that may as well lie ahead.
    """
    rules = grammar(document.language)
    if rules is None:
        return foreign_dates.dates(document, occurred_at)[:MAX_DATES]
    written = occurred_at.date()
    found = sorted(_chosen(document, rules, written, is_question), key=lambda m: m.start)
    found = together(document.text, found, document.language, written)
    return in_context(document, _ranges(document.text, found, rules))[:MAX_DATES]


def _applicable(document: Document, rules: Grammar) -> Iterator[Rule]:
    """Rules whose requirements are met: three turns in four contain neither a digit nor a time
    word, and cost nothing further.

    The unread rest of a long text may contain anything.
    """
    if len(document.sentences) >= MAX_SENTENCES:
        yield from rules.rules
        return
    kinds = rules.triggers
    # "5-Mar-24" is a single word here.
    pieces = (piece for word in document.words for piece in word.base.split("-"))
    words = {piece for piece in pieces if piece in kinds} | {
        word.base for word in document.words if word.base in kinds
    }
    there: set[Trigger] = {kinds[word] for word in words}
    if _DIGIT.search(document.text) is not None:
        there.add("digit")
        if YEAR.search(document.text) is not None:
            there.add("year")
    if not there:
        return
    text = document.text.lower()
    for rule in rules.rules:
        if (
            rule.needs <= there
            and (not rule.words or not rule.words.isdisjoint(words))
            and (not rule.parts or any(part in text for part in rule.parts))
        ):
            yield rule


def _chosen(document: Document, rules: Grammar, base: date, is_question: bool) -> list[Mention]:
    """Matches of all rules; where two overlap, the earlier rule wins."""
    taken = bytearray(len(document.text))
    found: list[Mention] = []
    for mention in _candidates(document, rules, base, is_question):
        if any(taken[mention.start : mention.end]):
            continue
        taken[mention.start : mention.end] = b"\1" * (mention.end - mention.start)
        found.append(mention)
    return found


def _ranges(text: str, mentions: Sequence[Mention], rules: Grammar) -> list[Mention]:
    """Two days of any form with "from … to …" around them are one: "from yesterday to 3/12/26"."""
    found: list[Mention] = []
    for mention in mentions:
        before = found[-1] if found else None
        if (
            before is not None
            and before.value is not None
            and mention.value is not None
            and rules.range_to.fullmatch(text, before.end, mention.start)
            and rules.range_from.search(text, max(0, before.start - 24), before.start)
            and len(before.value) == len(mention.value) == _DAY_LENGTH
            and before.value <= mention.value
        ):
            name = one_line(text[before.start : mention.end])
            value = f"{before.value}/{mention.value}"
            found[-1] = Mention(name, before.start, mention.end, value)
        else:
            found.append(mention)
    return found


def _candidates(
    document: Document, rules: Grammar, base: date, is_question: bool
) -> Iterator[Mention]:
    """At most MAX_MATCHES matches are examined, whether they are dates or not."""
    text = document.text
    matches = (
        (rule, match)
        for rule in _applicable(document, rules)
        for match in rule.pattern.finditer(text)
    )
    for rule, match in islice(matches, MAX_MATCHES):
        if _repeated(text, match.start(), rules) or (rule.may_be_name and is_name(document, match)):
            continue
        tense = _tense(document, match, rules)
        if tense == "unproven" and is_question:
            tense = "past"
        value = _value(rule, match, base, tense)
        if value is not None or rule.vague:
            yield Mention(one_line(match[0]), match.start(), match.end(), value)


def _repeated(text: str, start: int, rules: Grammar) -> bool:
    """ "every Friday" is not a day."""
    before = _LAST_WORD.search(text, max(0, start - 24), start)
    if before is None:
        return False
    return not rules.every.isdisjoint(before[0].lower().split())


def _value(rule: Rule, match: re.Match[str], base: date, tense: _Tense) -> str | None:
    if tense in ("past", "future"):
        return rule.resolve(match, base, tense)
    past, future = rule.resolve(match, base, "past"), rule.resolve(match, base, "future")
    if past == future:
        return past
    if tense == "present" or rule.may_be_name or rule.needs_tense:
        return None
    return past if _is_nearer(base, past, future) else None


def _is_nearer(base: date, past: str | None, future: str | None) -> bool:
    """Of two days or months, whether the past one is: "on 16 March", written on the 11th, is not
    the one of the year before.
    """
    if past is None or future is None:
        return True
    first, second = (date.fromisoformat(f"{value[:7]}-01"[:10]) for value in (past, future))
    if len(past) == len(future) == _DAY_LENGTH:
        first, second = date.fromisoformat(past), date.fromisoformat(future)
    return base - first <= second - base


def _tense(document: Document, match: re.Match[str], rules: Grammar) -> _Tense:
    """By the rest of its sentence: "bis" in "vom 24. bis 26. Juli" is part of the date.

    A sentence in the present may concern either side.
    """
    text, place = document.text, match.start()
    sentence = document.sentence_at(place)
    first_word = _FIRST_WORD.match(text, place, match.end())
    before = max(sentence.start, place - TENSE_CHARS), first_word.end() if first_word else place
    after = match.end(), max(match.end(), min(sentence.end, place + TENSE_CHARS))

    def has(words: re.Pattern[str]) -> bool:
        return any(words.search(text, *part) is not None for part in (before, after))

    if has(rules.future):
        return "future"
    is_present = has(rules.present)
    if has(rules.past_verbs) or (is_present and has(rules.participles)):
        return "past"
    if has(rules.future_nouns):
        return "future"
    if is_present:
        return "future" if has(rules.appointments) else "present"
    return "unproven"
