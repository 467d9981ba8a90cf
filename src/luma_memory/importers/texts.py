"""Functions shared by several formats: times, long texts, names, ids."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final

from luma_memory.domain.block import CONTENT_CHARACTERS_MAX

_NAME_CHARACTERS_MAX: Final = 256
# From here on, a number counts milliseconds: as seconds it would be in the year 5138.
_MILLISECONDS_FROM: Final = 1e11
# From March 1973 to 2100: another number is a year, a day, a count or a date without its signs.
_SECONDS_FROM: Final = 100_000_000
_SECONDS_TO: Final = 4_102_444_800
_DATE_DIGITS: Final = 8
_COMPACT_DIGITS: Final = (12, 14)  # with minutes, with seconds
_BREAKS: Final = ("\n\n", "\n", ". ", " ")
# What no column of text stores: NUL, and halves of a character that lost the other one.
_NOT_STORED: Final = re.compile("[\x00\ud800-\udfff]")
_SHORT: Final = (str, int, float, date)  # what can name something
_METADATA_DEPTH_MAX: Final = 20  # the service refuses more than 16


def parts(content: str) -> Iterator[tuple[str, str]]:
    """The text in pieces that fit into blocks, each with a suffix for its id: "", "#2", "#3" …

    Cut at the last paragraph, line, sentence or word that fits.
    """
    number, start = 1, 0
    while start < len(content):
        end = len(content)
        if end - start > CONTENT_CHARACTERS_MAX:
            end = _cut(content, start)
        piece = storable(content[start:end])
        start = end
        if piece.strip():
            yield piece.strip("\n"), "" if number == 1 else f"#{number}"
            number += 1


def _cut(content: str, start: int) -> int:
    middle, end = start + CONTENT_CHARACTERS_MAX // 2, start + CONTENT_CHARACTERS_MAX
    for mark in _BREAKS:
        at = content.rfind(mark, middle, end)
        if at > 0:
            return at + len(mark)
    return end


def storable(text: str) -> str:
    """The text with U+FFFD for what the service cannot store."""
    if text.isascii() and "\0" not in text:
        return text  # most texts, in a tenth of the time
    return _NOT_STORED.sub("\N{REPLACEMENT CHARACTER}", text)


def storable_json(value: Any, depth: int = 0) -> Any:
    """Metadata of a source as the service can store it; what is nested too deeply is left out."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > _METADATA_DEPTH_MAX:
        return None
    if isinstance(value, dict):
        return {storable(str(k)): storable_json(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [storable_json(entry, depth + 1) for entry in value]
    return value if value is None or isinstance(value, int) else str(value)


def name(value: object) -> str | None:
    """A speaker, session or other short name as the service takes it; None for anything else."""
    if not isinstance(value, _SHORT):
        return None
    text = " ".join(storable(str(value)[: 4 * _NAME_CHARACTERS_MAX]).split())
    return text[:_NAME_CHARACTERS_MAX] or None


def epoch(value: object) -> datetime | None:
    """Seconds or milliseconds since 1970, as a number or as text; None for anything else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number) or isinstance(value, bool):
        return None
    if abs(number) >= _MILLISECONDS_FROM:
        number /= 1000
    try:
        return datetime.fromtimestamp(number, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def iso(value: object, zone: tzinfo = UTC) -> datetime | None:
    """An ISO 8601 time or date; without an offset it is in `zone`. None for anything else."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=zone)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def instant(value: object, zone: tzinfo = UTC) -> datetime | None:
    """A time written as ISO 8601 or as seconds or milliseconds since 1970, also as text.

    A number of eight digits is a date such as 20260305; with the time it has 12 or 14, which as
    milliseconds would be the year 1976 or no year at all. None for anything else, and for numbers
    that would be a time before March 1973 or after 2099.
    """
    if isinstance(value, int) and 10_000_000 <= value < _SECONDS_FROM:
        value = str(value)
    text = value.strip() if isinstance(value, str) else ""
    # In more digits than those of a date, ISO 8601 finds the year 1712 where milliseconds are.
    if not text.isdecimal() or len(text) == _DATE_DIGITS:
        moment = iso(value, zone)
        if moment is not None:
            return moment
    if text.isdecimal() and len(text) in _COMPACT_DIGITS:
        day, clock = text[:_DATE_DIGITS], text[_DATE_DIGITS:]
        moment = iso(f"{day}T{clock}", zone)
        if moment is not None and _SECONDS_FROM <= moment.timestamp() < _SECONDS_TO:
            return moment
    moment = epoch(value)
    if moment is None or not _SECONDS_FROM <= moment.timestamp() < _SECONDS_TO:
        return None
    return moment


class ContentIds:
    """Stable ids for items without one: from their text, and its number of earlier occurrences.

    The same file, even with items appended, gives the same ids. Takes about 70 bytes per item.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._seen: set[int] = set()
        self._repeats: Counter[int] = Counter()

    def of(self, *facts: object) -> str:
        text = "\x1f".join(map(str, facts))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        key = int.from_bytes(digest[:8])
        found = f"{self._source}:{digest[:16].hex()}"
        if key not in self._seen:
            self._seen.add(key)
            return found
        self._repeats[key] += 1
        return f"{found}:{self._repeats[key] + 1}"

    def forget(self) -> None:
        """No later item equals an earlier one: a new day of a chat."""
        self._seen.clear()
        self._repeats.clear()


def as_mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
