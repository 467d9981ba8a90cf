"""Functions shared by several formats: times, long texts, ids, streamed JSON."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, BinaryIO, Final

import ijson

from luma_memory.domain.block import CONTENT_CHARACTERS_MAX

_NAME_CHARACTERS_MAX: Final = 256
# From here on, a number counts milliseconds: as seconds it would be in the year 5138.
_MILLISECONDS_FROM: Final = 1e11
_BREAKS: Final = ("\n\n", "\n", ". ", " ")


def parts(content: str) -> Iterator[tuple[str, str]]:
    """The text in pieces that fit into blocks, each with a suffix for its id: "", "#2", "#3" …

    Cut at the last paragraph, line, sentence or word that fits.
    """
    number = 1
    while content.strip():
        piece = content
        if len(content) > CONTENT_CHARACTERS_MAX:
            piece = content[: _cut(content)]
        content = content[len(piece) :]
        if piece.strip():
            yield piece.strip("\n"), "" if number == 1 else f"#{number}"
            number += 1


def _cut(content: str) -> int:
    for mark in _BREAKS:
        at = content.rfind(mark, CONTENT_CHARACTERS_MAX // 2, CONTENT_CHARACTERS_MAX)
        if at > 0:
            return at + len(mark)
    return CONTENT_CHARACTERS_MAX


def name(value: object) -> str | None:
    """A speaker, session or other short name as the service takes it; None for nothing."""
    text = " ".join(str(value).split()) if value is not None else ""
    return text[:_NAME_CHARACTERS_MAX] or None


def epoch(value: object) -> datetime | None:
    """Seconds or milliseconds since 1970, as a number or as text; None for anything else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
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
    """A time written as ISO 8601 or as a number."""
    return iso(value, zone) or epoch(value)


class ContentIds:
    """Stable ids for items without one: from their text, and its number of earlier occurrences.

    The same file, even with items appended, gives the same ids.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._seen: Counter[str] = Counter()

    def of(self, *facts: object) -> str:
        digest = hashlib.sha256("\x1f".join(map(str, facts)).encode("utf-8", "surrogatepass"))
        key = digest.hexdigest()[:32]
        self._seen[key] += 1
        count = self._seen[key]
        return f"{self._source}:{key}" + (f":{count}" if count > 1 else "")


def json_items(stream: BinaryIO, prefix: str) -> Iterator[Any]:
    """The values at a path of a JSON document, one at a time; "item" for the items of an array.

    Raises ijson.JSONError if the document is incomplete or malformed.
    """
    yield from ijson.items(stream, prefix, use_float=True)


def as_mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
