"""The sender's offset from UTC, which decides what day "today" was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone


def utc_offset_minutes(instant: datetime) -> int | None:
    """Minutes east of UTC, -1439..1439; None for UTC itself."""
    offset = instant.utcoffset()
    return int(offset.total_seconds() // 60) or None if offset else None


def at_offset(instant: datetime, minutes: int | None) -> datetime:
    """The same instant with this offset; in UTC where the year would leave 1..9999."""
    if not minutes:
        return instant
    try:
        return instant.astimezone(timezone(timedelta(minutes=minutes)))
    except (OverflowError, ValueError):
        return instant.astimezone(UTC)


def in_utc(instant: datetime) -> datetime:
    """The same instant, as the API reports times."""
    return instant.astimezone(UTC)
