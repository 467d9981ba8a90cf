"""Dates in languages without a vocabulary here, found and resolved by dateparser.

Its search takes milliseconds a turn, so it reads only what holds a digit or one of the language's
own words for days, and only the beginning of a long text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from dateparser.date import DateDataParser
from dateparser.languages.loader import default_loader
from dateparser.search import search_dates

from luma_memory.providers.completion.extract import cyrillic_dates
from luma_memory.providers.completion.extract.date_mention import Mention
from luma_memory.providers.completion.extract.date_rule import YEAR
from luma_memory.providers.completion.extract.document import Document
from luma_memory.providers.completion.extract.foreign_tense import tense
from luma_memory.providers.completion.extract.language import CYRILLIC_LANGUAGES

READ_CHARS = 600
SHORT_CHARS = 60
_RELATIVE = (
    "0 day ago", "1 day ago", "in 1 day", "0 week ago", "1 week ago", "in 1 week",
    "1 month ago", "in 1 month", "1 year ago", "in 1 year",
)  # fmt: skip
_NUMBER = re.compile(r"^[\d.:/ -]+$|\d\.\d+\.\d")
# "3 до 5 ноября" has two days, and is not the third of May.
_TWO_DAYS = re.compile(r"(?<![\d.:/-])\d{1,2}\s\D*\s\d{1,2}(?![\d:])")
# "4월" of "4월 3일": the parser stopped within the date.
_DAY_FOLLOWS = re.compile(r"(?<=[월月])\s*\d{1,2}\s*[일日号號]")
_PART_OF_A_NUMBER = re.compile(r"[.:]?\d")
_log = logging.getLogger(__name__)


def dates(document: Document, occurred_at: datetime) -> list[Mention]:
    """Mentions in order of appearance."""
    found = (_in_language(document, language, occurred_at) for language in _tried(document))
    return next(filter(None, found), [])


def _tried(document: Document) -> Sequence[str]:
    """The language it is read in, and those that a short text of its script may be as well."""
    language = document.language
    if len(document.text) > SHORT_CHARS:
        return (language,)
    if language in CYRILLIC_LANGUAGES:
        return tuple(dict.fromkeys([language, "ru", "uk", "bg"]))
    return (language, "ja") if language == "zh" else (language,)


def _in_language(
    document: Document,
    language: str,
    occurred_at: datetime,
) -> list[Mention]:
    text = document.text[:READ_CHARS]
    base = datetime(occurred_at.year, occurred_at.month, occurred_at.day)  # noqa: DTZ001 (dateparser compares naive)
    counted = _counted(text, language, base.date())
    if not counted and not _worth_searching(text, language):
        return []
    found = [(start, end, value) for start, end, value in counted if value is not None]
    for start, end, value in _parsed(text, language, base):
        if not any(start < last and first < end for first, last, _ in counted):
            found.append((start, end, value))
    return [Mention(text[start:end], start, end, value) for start, end, value in sorted(found)]


def _counted(text: str, language: str, base: date) -> list[tuple[int, int, str | None]]:
    return list(cyrillic_dates.found(text, base)) if language in ("ru", "uk") else []


def _parsed(text: str, language: str, base: datetime) -> Iterator[tuple[int, int, str]]:
    place = 0
    for name, _ in _search(text, language, base):
        start = text.find(name, place)
        if start < 0 or _is_a_number(text, start, start + len(name)):
            continue
        if _TWO_DAYS.search(name) or _DAY_FOLLOWS.match(text, start + len(name)):
            continue
        if value := _on_its_side(name, text, language, base):
            place = start + len(name)
            yield start, place, value


def _on_its_side(name: str, text: str, language: str, base: datetime) -> str | None:
    """A day without a year or a direction only where the text determines its direction."""
    past, future = (_iso(name, language, base, side) for side in ("past", "future"))
    if past == future:
        return past
    return {"past": past, "future": future, None: None}[tense(text, language)]


def _is_a_number(text: str, start: int, end: int) -> bool:
    """An address or a version: digits that continue, or digits without a year of four."""
    name = text[start:end]
    if _PART_OF_A_NUMBER.match(text, end) or (start and text[start - 1] in "0123456789.:"):
        return True
    return _NUMBER.search(name) is not None and YEAR.search(name) is None


def _worth_searching(text: str, language: str) -> bool:
    words = _day_words(language)
    if words is None:
        return False
    lowered = text.lower()
    return any(char.isdecimal() for char in text) or any(word in lowered for word in words)


@cache
def _day_words(language: str) -> frozenset[str] | None:
    """Words for days, weekdays and months; None where dateparser does not know the language."""
    try:
        info = default_loader.get_locale(_code(language)).info
    except (ValueError, KeyError):
        return None
    relative = info.get("relative-type", {})
    words = [word for key in _RELATIVE for word in relative.get(key, [])]
    names = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    words += [word for name in names for word in info.get(name, []) if len(word) > 3]
    return frozenset(word.lower() for word in words if len(word) > 1)


def _search(text: str, language: str, base: datetime) -> list[tuple[str, datetime]]:
    try:
        found = search_dates(text, languages=[_code(language)], settings=_settings(base))
    except Exception:
        # A foreign parser over arbitrary text: a date not found costs less than the block.
        _log.debug("date search failed", exc_info=True)
        return []
    return [(name, when) for name, when, *_ in found or [] if len(name) > 1]


@lru_cache(maxsize=256)
def _iso(name: str, language: str, base: datetime, side: str) -> str | None:
    """The mention with the precision it was written with; a bare number is no date."""
    if name.isdecimal() and len(name) != 4:
        return None
    try:
        settings = _settings(base, side)
        found = DateDataParser(languages=[_code(language)], settings=settings).get_date_data(name)
    except Exception:
        _log.debug("date parsing failed", exc_info=True)
        return None
    return _written(found.date_obj.date(), found.period) if found.date_obj else None


def _written(day: date, period: str | None) -> str | None:
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        return f"{monday.isoformat()}/{(monday + timedelta(days=6)).isoformat()}"
    length = {"year": 4, "month": 7, "day": 10, "time": 10, "part_of_day": 10}.get(period or "")
    return day.isoformat()[:length] if length else None


def _settings(base: datetime, side: str = "past") -> dict[str, Any]:
    return {"RELATIVE_BASE": base, "PREFER_DATES_FROM": side, "RETURN_TIME_AS_PERIOD": False}


def _code(language: str) -> str:
    return {"no": "nb", "sr": "sr-Cyrl"}.get(language, language)
