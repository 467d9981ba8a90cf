"""The first and last instants, which PostgreSQL and the driver treat as infinity.

The driver stores the first instant of the year 1 and the last of the year 9999 as -infinity and
infinity, and returns them without a time zone: comparing or converting such a value raises.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def aware(instant: datetime) -> datetime: ...
@overload
def aware(instant: datetime | None) -> datetime | None: ...
def aware(instant: datetime | None) -> datetime | None:
    """The same instant, always with a time zone."""
    if instant is not None and instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    return instant
