"""Times as mem0's clients send them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_YEARS: Final = range(2, 9999)


def _timestamp(value: object) -> datetime | None:
    """A Unix timestamp in seconds, or ISO 8601; UTC if no offset is given."""
    if value is None:
        return None
    instant = None
    try:
        if isinstance(value, str):
            instant = _aware(datetime.fromisoformat(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            instant = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return _in_range(
        instant, "timestamp_invalid", "a Unix timestamp in seconds, or a time in ISO 8601"
    )


def _expiry(value: object) -> datetime | None:
    """The end of a day YYYY-MM-DD in UTC, or an instant in ISO 8601."""
    if value is None:
        return None
    instant = None
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            start = datetime.combine(date.fromisoformat(value), time(), UTC)
            instant = start + timedelta(days=1)
        elif isinstance(value, str):
            instant = _aware(datetime.fromisoformat(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    return _in_range(instant, "expiration_date_invalid", "a date in the form YYYY-MM-DD")


def _in_range(instant: datetime | None, code: str, expected: str) -> datetime:
    if instant is None or instant.year not in _YEARS:
        raise PydanticCustomError(code, f"must be {expected}")
    return instant


def _aware(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


Timestamp = Annotated[Any, BeforeValidator(_timestamp)]
Expiry = Annotated[Any, BeforeValidator(_expiry)]
