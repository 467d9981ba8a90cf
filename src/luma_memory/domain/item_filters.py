"""Filters of items: comparisons with members of their values.

    {"status": "done", "score": {"$gte": 3, "$lt": 9}, "author": {"name": "Ada"}}

All entries must hold. An entry is a member's name with a value (equal), operators, or an object
whose entries are compared with the member's own members. A missing member equals null only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from luma_memory.domain.errors import Invalid

ItemOperator = Literal["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]
_OPERATORS: Final[Sequence[str]] = get_args(ItemOperator)
_EQUALITY: Final = ("$eq", "$ne")

DEPTH_MAX: Final = 8
COMPARISONS_MAX: Final = 100
CHARACTERS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class ItemComparison:
    """One member of the value against one JSON value."""

    path: Sequence[str]
    operator: ItemOperator
    value: Any


# All must hold; none: every item.
ItemFilter: TypeAlias = Sequence[ItemComparison]


def parse_item_filter(document: Mapping[str, Any]) -> ItemFilter:
    """The filter in a JSON object. Raises Invalid (code `invalid_filter`) naming the place."""
    found: list[ItemComparison] = []
    _parse(document, (), found)
    return found


def _parse(document: Mapping[str, Any], path: tuple[str, ...], found: list[ItemComparison]) -> None:
    if len(path) >= DEPTH_MAX:
        raise _wrong(path, f"nested no deeper than {DEPTH_MAX}")
    for name, expected in document.items():
        place = (*path, _text(name, path))
        if not isinstance(expected, Mapping):
            _add(place, "$eq", expected, found)
        elif any(key.startswith("$") for key in expected):
            for operator, operand in expected.items():
                _add(place, operator, operand, found)
        elif expected:
            _parse(expected, place, found)
        else:
            _add(place, "$eq", expected, found)


def _add(path: tuple[str, ...], operator: str, value: Any, found: list[ItemComparison]) -> None:
    for known in get_args(ItemOperator):
        if operator == known:
            break
    else:
        raise _wrong(path, f"compared by one of {', '.join(_OPERATORS)}")
    if len(found) >= COMPARISONS_MAX:
        raise _wrong(path, f"one of at most {COMPARISONS_MAX} comparisons")
    if operator not in _EQUALITY and (
        isinstance(value, bool) or not isinstance(value, str | int | float)
    ):
        raise _wrong(path, "compared with a number or a text")
    found.append(ItemComparison(path, known, _storable(value, path, depth=0)))


def _storable(value: Any, path: tuple[str, ...], *, depth: int) -> Any:
    """The value, if a database can hold it."""
    if depth > DEPTH_MAX:
        raise _wrong(path, f"nested no deeper than {DEPTH_MAX}")
    match value:
        case str():
            _text(value, path)
        case float() if not math.isfinite(value):
            raise _wrong(path, "a finite number")
        case Mapping():
            for name, member in value.items():
                _text(name, path)
                _storable(member, path, depth=depth + 1)
        case list():
            for member in value:
                _storable(member, path, depth=depth + 1)
        case _:
            pass
    return value


def _text(value: str, path: tuple[str, ...]) -> str:
    if len(value) > CHARACTERS_MAX:
        raise _wrong(path, f"a text of at most {CHARACTERS_MAX} characters")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(path, "a text that a database can hold")
    return value


def _wrong(path: tuple[str, ...], expected: str) -> Invalid:
    place = ".".join(("filter", *path))[:256]
    return Invalid(f"{place} must be {expected}", code="invalid_filter", field=place)
