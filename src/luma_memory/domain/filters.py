"""Filters of a search: which blocks may be returned, as a small tree of comparisons.

On the wire a filter is an object whose entries must all hold:

    {"source": "slack", "occurred_at": {"gte": "2024-01-01T00:00:00Z"},
     "OR": [{"tags": "travel"}, {"metadata.team": {"in": ["blue", "red"]}}],
     "NOT": {"status": "failed"}}

An entry is a field with a value (equal; for tags: contained), a list (one of them) or operators. A
missing field equals null only. The values of a filter become parameters of a statement, and a
filter can only narrow the requested scope.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from luma_memory.domain.errors import Invalid

FieldKind = Literal["text", "time", "number", "tags", "metadata"]
Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "exists"]
Junction = Literal["AND", "OR"]

DEPTH_MAX: Final = 8
COMPARISONS_MAX: Final = 100
VALUES_MAX: Final = 200
CHARACTERS_MAX: Final = 2_000
PATH_MAX: Final = 8

FIELDS: Final[Mapping[str, FieldKind]] = {
    "source": "text",
    "session_id": "text",
    "agent_id": "text",
    "speaker": "text",
    "external_id": "text",
    "status": "text",
    "enrichment": "text",
    "language": "text",
    "importance": "number",
    "occurred_at": "time",
    "created_at": "time",
    "updated_at": "time",
    "expires_at": "time",
    "tags": "tags",
}
METADATA: Final = "metadata"

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}")
_ORDERED: Final[Sequence[Operator]] = ("gt", "gte", "lt", "lte")
_OPERATORS: Final[Mapping[FieldKind, Sequence[Operator]]] = {
    "text": ("eq", "ne", "in", "nin", "exists", *_ORDERED),
    "time": ("eq", "ne", "exists", *_ORDERED),
    "number": ("eq", "ne", "exists", *_ORDERED),
    "tags": ("contains", "in", "nin", "exists"),
    "metadata": ("eq", "ne", "in", "nin", "contains", "exists", *_ORDERED),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against one value, the value checked to be of the field's kind."""

    field: str  # a key of FIELDS, or METADATA
    operator: Operator
    value: Any  # a sequence for in and nin, a bool for exists
    path: Sequence[str] = ()  # path within the metadata


@dataclass(frozen=True, slots=True)
class Combined:
    """All of the parts, or any of them; of none: true for AND, false for OR."""

    junction: Junction
    parts: Sequence[Filter]


@dataclass(frozen=True, slots=True)
class Negated:
    """True where its part is false."""

    part: Filter


Filter: TypeAlias = "Comparison | Combined | Negated"


def parse_filter(document: Mapping[str, Any]) -> Filter:
    """The filter in a JSON object. Raises Invalid (code `invalid_filter`) naming the place."""
    parser = _Parser()
    return parser.object(document, "filters", depth=1)


class _Parser:
    """Counts comparisons over the whole document."""

    def __init__(self) -> None:
        self._comparisons = 0

    def object(self, document: Any, place: str, *, depth: int) -> Filter:
        if not isinstance(document, Mapping):
            raise _wrong(place, "an object")
        if depth > DEPTH_MAX:
            raise _wrong(place, f"nested no deeper than {DEPTH_MAX}")
        parts = [self._entry(str(name), value, place, depth) for name, value in document.items()]
        return parts[0] if len(parts) == 1 else Combined("AND", parts)

    def _entry(self, name: str, value: Any, place: str, depth: int) -> Filter:
        place = f"{place}.{name}"
        match name:
            case "AND" | "OR":
                if not isinstance(value, list):
                    raise _wrong(place, "a list of objects")
                return Combined(
                    name,
                    [
                        self.object(part, f"{place}.{number}", depth=depth + 1)
                        for number, part in enumerate(value)
                    ],
                )
            case "NOT":
                return Negated(self.object(value, place, depth=depth + 1))
            case _:
                return self._field(name, value, place)

    def _field(self, name: str, value: Any, place: str) -> Filter:
        kind, path = _kind(name, place)
        field = METADATA if kind == "metadata" else name
        if isinstance(value, Mapping):
            parts = [
                self._comparison(kind, field, path, str(operator), operand, place)
                for operator, operand in value.items()
            ]
            return parts[0] if len(parts) == 1 else Combined("AND", parts)
        if isinstance(value, list):
            return self._comparison(kind, field, path, "in", value, place)
        plain = "contains" if kind == "tags" else "eq"
        return self._comparison(kind, field, path, plain, value, place)

    def _comparison(
        self,
        kind: FieldKind,
        field: str,
        path: Sequence[str],
        operator: str,
        value: Any,
        place: str,
    ) -> Filter:
        self._comparisons += 1
        if self._comparisons > COMPARISONS_MAX:
            raise _wrong(place, f"one of at most {COMPARISONS_MAX} comparisons")
        for known in _OPERATORS[kind]:
            if operator == known:
                if kind == "time" and _is_whole_day(value):
                    return _on_day(field, known, value, place)
                return Comparison(field, known, _operand(kind, known, value, place), path)
        raise _wrong(
            place, f"compared by one of {', '.join(_OPERATORS[kind])}, not by {operator!r}"
        )


def _is_whole_day(value: Any) -> bool:
    return isinstance(value, str) and _DAY.fullmatch(value) is not None


def _on_day(field: str, operator: Operator, value: str, place: str) -> Filter:
    """A date without a time is the whole day, in UTC: "lte 2026-06-30" includes the 30th."""
    start = Comparison(field, "gte", _instant(value, place))
    stop = Comparison(field, "lt", start.value + timedelta(days=1))
    match operator:
        case "gte":
            return start
        case "lt":
            return Comparison(field, "lt", start.value)
        case "gt":
            return Comparison(field, "gte", stop.value)
        case "lte":
            return stop
        case "ne":
            return Negated(Combined("AND", [start, stop]))
        case _:
            return Combined("AND", [start, stop])


def _kind(name: str, place: str) -> tuple[FieldKind, Sequence[str]]:
    root, _, rest = name.partition(".")
    if root == METADATA and rest:
        path = rest.split(".")
        if len(path) > PATH_MAX or not all(path):
            raise _wrong(place, f"a path of 1 to {PATH_MAX} names")
        return "metadata", [_text(step, place) for step in path]
    if name in FIELDS:
        return FIELDS[name], ()
    raise _wrong(place, f"one of {', '.join(FIELDS)}, metadata.…, AND, OR, NOT")


def _operand(kind: FieldKind, operator: Operator, value: Any, place: str) -> Any:
    if operator == "exists":
        if not isinstance(value, bool):
            raise _wrong(place, "true or false")
        return value
    if operator in ("in", "nin"):
        if not isinstance(value, list) or not 1 <= len(value) <= VALUES_MAX:
            raise _wrong(place, f"a list of 1 to {VALUES_MAX} values")
        return [_value(kind, entry, place, nullable=False) for entry in value]
    checked = _value(kind, value, place, nullable=operator in ("eq", "ne"))
    if kind == "metadata" and operator in _ORDERED and not isinstance(checked, str):
        return _number(checked, place)
    return checked


def _value(kind: FieldKind, value: Any, place: str, *, nullable: bool) -> Any:
    if value is None and nullable:
        return None
    match kind:
        case "text" | "tags":
            return _text(value, place)
        case "number":
            return _number(value, place)
        case "time":
            return _instant(value, place)
        case "metadata":
            return _scalar(value, place)


def _scalar(value: Any, place: str) -> Any:
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, bool):
        return value
    return _number(value, place)


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or len(value) > CHARACTERS_MAX:
        raise _wrong(place, f"a text of at most {CHARACTERS_MAX} characters")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(place, "a text that a database can hold")
    return value


def _number(value: Any, place: str) -> float | int:
    """A number that metadata can hold: only storable numbers can be found."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    # 1e300 as an integer has 300 digits.
    if isinstance(value, float) and math.isfinite(value) and abs(value) < 2.0**53:
        return value
    raise _wrong(place, "a number: an integer within 64 bits, or a decimal below 2**53")


def _instant(value: Any, place: str) -> datetime:
    expected = "a time in ISO 8601, such as 2024-03-01T09:00:00Z"
    try:
        instant = datetime.fromisoformat(_text(value, place))
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        instant = instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _wrong(place, expected) from error
    if not 2 <= instant.year <= 9998:
        raise _wrong(place, expected)
    return instant


def _wrong(place: str, expected: str) -> Invalid:
    return Invalid(f"{place} must be {expected}", code="invalid_filter", field=place)
