"""Field types that validate input at the API boundary.

PostgreSQL cannot store NUL, UTF-8 cannot encode lone surrogates, JSON has no NaN; unchecked, each
would fail deep inside the service with a 500. Error codes are stable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from luma_memory.domain.block import CONTENT_CHARACTERS_MAX
from luma_memory.domain.local_time import in_utc

# For a character class: spaces, controls, and characters that Unicode declares invisible
# (Default_Ignorable_Code_Point), plus the Braille blank and annotation marks.
_INVISIBLE = (
    "\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_VISIBLE = re.compile(f"[^{_INVISIBLE}]")
# The rules of `check_text`, as far as JSON Schema can express them.
NO_NUL_PATTERN = r"^[^\x00]*$"
NOT_BLANK_PATTERN = rf"^[^\x00]*[^{_INVISIBLE}][^\x00]*$"
# The schema of a metadata value in the OpenAPI document, limited to what clients can use.
JSON_VALUE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": NO_NUL_PATTERN},
        {"type": "number", "exclusiveMinimum": -(2**53), "exclusiveMaximum": 2**53},
        {"type": "boolean"},
        {"type": "null"},
        # What is nested is not described further: generated TypeScript cannot refer to itself here.
        {"type": "array", "items": {}},
        {
            "type": "object",
            "additionalProperties": True,
            "propertyNames": {"pattern": NO_NUL_PATTERN},
        },
    ],
    "description": "Any JSON; nested at most 16 levels, 1,000 values and 65,536 characters in all.",
}
NAME_CHARACTERS_MAX = 256
QUERY_CHARACTERS_MAX = 10_000
METADATA_DEPTH_MAX = 16
METADATA_VALUES_MAX = 1_000
METADATA_CHARACTERS_MAX = 65_536
_SECONDS = re.compile(r"\s*[+-]?[0-9_]*\.?[0-9_]*([eE][+-]?[0-9]+)?\s*")
# Most clients' JSON parsers cannot represent integers beyond 64 bits.
INTEGER_MAX = 2**63
# PostgreSQL stores decimals: a larger float would be returned as an integer with other digits.
FLOAT_MAX = 2.0**53


def check_text(value: str) -> str:
    """Require storable text with at least one visible character. Never changes the value."""
    check_storable(value)
    if not _VISIBLE.search(value):
        raise PydanticCustomError("text_blank", "must not be blank")
    return value


def check_storable(value: str) -> str:
    """Reject NUL and lone surrogates."""
    if "\x00" in value:
        raise PydanticCustomError("text_nul", "must not contain the character NUL")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError(
                "text_surrogate", "must not contain a lone surrogate"
            ) from None
    return value


def check_instant_form(value: object) -> object:
    """Require a string that pydantic does not parse as a number of seconds."""
    if isinstance(value, datetime) or (isinstance(value, str) and not _SECONDS.fullmatch(value)):
        return value
    raise PydanticCustomError("datetime_type", "must be an ISO 8601 date and time")


def check_instant(value: datetime) -> datetime:
    """An aware UTC instant; a value without an offset is taken as UTC."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError(
            "instant_range", "must lie between the years 1 and 9999"
        ) from None


def check_local_instant(value: datetime) -> datetime:
    """An aware instant with the offset it was sent with; without one it is UTC."""
    utc = check_instant(value)
    return utc if value.tzinfo is None else value


def check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """Require JSON within limits on depth, number of values, characters and size of numbers."""
    _Budget().spend(value, depth=1)
    return value


class _Budget:
    """Remaining size of one metadata object."""

    def __init__(self) -> None:
        self._values = METADATA_VALUES_MAX
        self._characters = METADATA_CHARACTERS_MAX

    def spend(self, value: object, *, depth: int) -> None:
        if depth > METADATA_DEPTH_MAX:
            raise PydanticCustomError(
                "metadata_depth", f"must not be nested deeper than {METADATA_DEPTH_MAX} levels"
            )
        self._values -= 1
        if self._values < 0:
            raise PydanticCustomError(
                "metadata_values", f"must not hold more than {METADATA_VALUES_MAX} values"
            )
        match value:
            case dict():
                for key, entry in value.items():
                    self._spend_text(key)
                    self.spend(entry, depth=depth + 1)
            case list():
                for entry in value:
                    self.spend(entry, depth=depth + 1)
            case str():
                self._spend_text(value)
            case bool() | None:
                pass
            case int() | float():
                _check_number(value)
            case _:
                raise PydanticCustomError("metadata_type", "must hold JSON values only")

    def _spend_text(self, text: str) -> None:
        check_storable(text)
        self._characters -= len(text)
        if self._characters < 0:
            raise PydanticCustomError(
                "metadata_size", f"must not hold more than {METADATA_CHARACTERS_MAX} characters"
            )


def _check_number(value: float) -> None:
    if not math.isfinite(value):
        raise PydanticCustomError("number_not_finite", "must hold finite numbers only")
    limit = INTEGER_MAX if isinstance(value, int) else FLOAT_MAX
    if abs(value) >= limit:
        raise PydanticCustomError(
            "number_too_large", "must hold integers within 64 bits and decimals below 2**53 only"
        )


def _text(limit: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if len(value) > limit:
            raise PydanticCustomError("text_too_long", f"must have at most {limit:,} characters")
        return check_text(value)

    return check


def _schema(limit: int) -> dict[str, Any]:
    return {"minLength": 1, "maxLength": limit, "pattern": NOT_BLANK_PATTERN}


Content = Annotated[
    str,
    Field(json_schema_extra=_schema(CONTENT_CHARACTERS_MAX)),
    AfterValidator(_text(CONTENT_CHARACTERS_MAX)),
]
Name = Annotated[
    str,
    Field(json_schema_extra=_schema(NAME_CHARACTERS_MAX)),
    AfterValidator(_text(NAME_CHARACTERS_MAX)),
]
# A place in a list that is ordered by texts: four bytes a character, escaped and signed.
CURSOR_CHARACTERS_MAX = 4_000
Cursor = Annotated[
    str,
    Field(json_schema_extra=_schema(CURSOR_CHARACTERS_MAX)),
    AfterValidator(_text(CURSOR_CHARACTERS_MAX)),
]
# Filters as JSON in an address, which servers and proxies limit to 8 KB or more.
FILTER_CHARACTERS_MAX = 8_000
FilterText = Annotated[
    str,
    Field(json_schema_extra=_schema(FILTER_CHARACTERS_MAX)),
    AfterValidator(_text(FILTER_CHARACTERS_MAX)),
]
Query = Annotated[
    str,
    Field(json_schema_extra=_schema(QUERY_CHARACTERS_MAX)),
    AfterValidator(_text(QUERY_CHARACTERS_MAX)),
]
Instant = Annotated[datetime, BeforeValidator(check_instant_form), AfterValidator(check_instant)]
# Keeps the sender's offset: it decides what day "today" was.
LocalInstant = Annotated[
    datetime, BeforeValidator(check_instant_form), AfterValidator(check_local_instant)
]
# Of responses: always UTC.
UtcInstant = Annotated[datetime, AfterValidator(in_utc)]
Metadata = Annotated[
    dict[str, Any],
    Field(
        json_schema_extra={
            "additionalProperties": {"$ref": "#/components/schemas/JsonValue"},
            "propertyNames": {"pattern": NO_NUL_PATTERN},
        }
    ),
    AfterValidator(check_metadata),
]
