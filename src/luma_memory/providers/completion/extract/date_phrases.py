"""What two expressions of time say together: "Tuesday of last week", "a day after Christmas"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import Final

from luma_memory.providers.completion.extract.date_mention import Mention
from luma_memory.providers.completion.extract.vocabulary import DateWords, vocabulary

_BEFORE_CHARS: Final = 48
_DAYS_OF_WEEK: Final = 7
_OF: Final = re.compile(
    r",? (?:(?:of|in|der|in der|von|de|de la|de esta|della|di|nella|da|na|van|in de) )?",
    re.IGNORECASE,
)
_ON: Final = re.compile(r",? (?:(?:on|am|den|el|le|il|na|no|op) )?", re.IGNORECASE)
# "the day after", "deux jours avant", "il giorno dopo": of a time that follows.
_RELATION: Final = (
    r"before|after|prior to|following|vor|nach|antes de|después de|avant|après|prima di|dopo"
    r"|antes d[eo]|depois d[eo]|voor|na|antes del|después del|prima del|antes da|depois da"
)
_RELATED: Final = re.compile(rf"(?:{_RELATION})\b", re.IGNORECASE)
_EVES: Final = (
    r"(?:lendemain|veille|víspera|vigilia|véspera|vorabend|vooravond|day)"
    r" (?:de|di|do|von|van|d['’]|del|of) ?"
)
_ARTICLE: Final = r"(?:(?:the|dem|den|der|el|la|le|il|lo|l['’]|o|a|de|het) ?)?"


def together(text: str, mentions: Sequence[Mention], language: str, written: date) -> list[Mention]:
    """The mentions, in order, of which some are read with their neighbors.

    A weekday beside a week that is named is the day of that week; of a week that is counted, the
    week alone is certain. A time that another one is counted from is neither: nothing is read.
    """
    if vocabulary(language).dates is None:
        return list(mentions)
    found = _without_offsets(text, _in_weeks(text, mentions, language, written), language)
    return _without_counted_days(text, found, language)


def _in_weeks(
    text: str, mentions: Sequence[Mention], language: str, written: date
) -> list[Mention]:
    found: list[Mention] = []
    for mention in mentions:
        before = found[-1] if found else None
        if before is not None:
            day, week, gap = (before, mention, _OF) if _is_week(mention) else (mention, before, _ON)
            if (
                _is_week(week)
                and weekdays(language).fullmatch(day.name)
                and day.value is not None
                and gap.fullmatch(text, before.end, mention.start)
            ):
                value = _day_of_week(week, day, written)
                found[-1] = (
                    week
                    if value is None
                    else replace(
                        day,
                        name=f"{before.name} {mention.name}",
                        start=before.start,
                        end=mention.end,
                        value=value,
                    )
                )
                continue
        found.append(mention)
    return found


def _is_week(mention: Mention) -> bool:
    first, _, last = (mention.value or "").partition("/")
    if len(first) != len("2026-03-09") or len(last) != len(first):
        return False
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    return days == _DAYS_OF_WEEK and date.fromisoformat(first).weekday() == 0


def _day_of_week(week: Mention, day: Mention, written: date) -> str | None:
    """None for a week that is not beside the one the text was written in."""
    assert week.value is not None
    assert day.value is not None
    monday = date.fromisoformat(week.value.partition("/")[0])
    if abs((monday - (written - timedelta(days=written.weekday()))).days) > _DAYS_OF_WEEK:
        return None
    return (monday + timedelta(days=date.fromisoformat(day.value).weekday())).isoformat()


def _without_offsets(text: str, mentions: Sequence[Mention], language: str) -> list[Mention]:
    related, counted = _offset(language)
    found: list[Mention] = []
    for mention in mentions:
        start = max(0, mention.start - _BEFORE_CHARS)
        before = related.search(text, start, mention.start)
        if before is None and _RELATED.match(mention.name) is not None:
            before = counted.search(text, start, mention.start)
        if before is None:
            found.append(mention)
            continue
        while found and found[-1].end > before.start():
            found.pop()
    return found


def _without_counted_days(text: str, mentions: Sequence[Mention], language: str) -> list[Mention]:
    """ "A week ago yesterday", "a week from yesterday", "tomorrow week": neither of the two."""
    days, counted, week = _counted_days(language)
    found: list[Mention] = []
    for mention in mentions:
        if days.fullmatch(mention.name) is not None:
            before = found[-1] if found else None
            if before is not None and text[before.end : mention.start] == " ":
                found.pop()
                continue
            start = max(0, mention.start - _BEFORE_CHARS)
            if counted.search(text, start, mention.start) or week.match(text, mention.end):
                continue
        found.append(mention)
    return found


@cache
def _counted_days(language: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Yesterday, today and the like; what is counted from such a day before and behind it."""
    words = date_words(language)
    units = "|".join([*words.unit.values(), *words.units.values()])
    after = "|".join(filter(None, [words.unit["week"], words.fortnight.rpartition(" ")[2]]))
    return (
        re.compile("|".join(day.phrase for day in words.days), re.IGNORECASE),
        re.compile(rf"(?<!\w)(?:{units}) (?:{words.weeks_from or '(?!)'})\s+\Z", re.IGNORECASE),
        re.compile(rf" (?:{after})(?!\w)", re.IGNORECASE),
    )


@cache
def weekdays(language: str) -> re.Pattern[str]:
    """Names of weekdays, of a language with a vocabulary."""
    words = date_words(language)
    return re.compile("|".join(words.weekdays), re.IGNORECASE)


@cache
def _offset(language: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """ "two days after" and "two days", at the end of the text before a time: a feast is named with
    its preposition.
    """
    words = date_words(language)
    counted = "|".join([*words.unit.values(), *words.units.values(), *words.weekdays])
    return (
        re.compile(
            rf"(?<!\w)(?:(?:{counted}) (?:{_RELATION})\s+|{_EVES}){_ARTICLE}\Z", re.IGNORECASE
        ),
        re.compile(rf"(?<!\w)(?:{counted})\s+\Z", re.IGNORECASE),
    )


def date_words(language: str) -> DateWords:
    """Of a language with a vocabulary."""
    words = vocabulary(language).dates
    assert words is not None
    return words
