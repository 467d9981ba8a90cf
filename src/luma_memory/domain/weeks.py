"""ISO weeks on a user's own calendar, as windows of instants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_WEEK_NAME: Final = re.compile(r"([0-9]{4})-W([0-9]{2})")
WEEK: Final = timedelta(days=7)
# Names that depend on the machine or mean no zone at all.
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
# Weeks that both datetime and PostgreSQL can count from and to, in every zone.
FIRST_WEEK: Final = date(1900, 1, 1)
LAST_WEEK: Final = date(9990, 1, 1)


@dataclass(frozen=True, slots=True)
class Week:
    """The week that begins on Monday `start` in a time zone: instants [starts_at, ends_at), UTC.

    If that midnight is skipped (clocks go forward over it), the week begins with the first
    instant after it; if it occurs twice, with the first. A week has 168 hours except for changes of
    the clocks, and six days where a country crossed the date line.
    """

    start: date
    time_zone: str
    starts_at: datetime
    ends_at: datetime

    @classmethod
    def beginning(cls, start: date, time_zone: str) -> Self:
        """The week of that Monday. Raises ValueError for another day and for an unknown zone."""
        if start.weekday() != 0 or not FIRST_WEEK <= start <= LAST_WEEK:
            raise ValueError(f"{start} is not a Monday between {FIRST_WEEK} and {LAST_WEEK}")
        zone = zone_of(time_zone)
        return cls(start, time_zone, _midnight(start, zone), _midnight(start + WEEK, zone))

    @classmethod
    def containing(cls, instant: datetime, time_zone: str) -> Self:
        """The week of an instant. Raises ValueError for an unknown zone."""
        day = instant.astimezone(zone_of(time_zone)).date()
        week = cls.beginning(day - timedelta(days=day.weekday()), time_zone)
        # Clocks that go back over midnight show Sunday again when Monday has begun.
        return week if instant < week.ends_at else cls.beginning(week.start + WEEK, time_zone)

    @property
    def before(self) -> Week:
        return Week.beginning(self.start - WEEK, self.time_zone)

    @property
    def name(self) -> str:
        """As ISO 8601 writes it: 2026-W10."""
        year, number, _ = self.start.isocalendar()
        return f"{year}-W{number:02}"


def is_time_zone(name: str) -> bool:
    """Whether it names a time zone with its history, such as "Europe/Lisbon"."""
    return name in _zone_names()


@cache
def zone_of(name: str) -> ZoneInfo:
    """The time zone. Raises ValueError for an unknown name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError(f"{name!r} is not a time zone") from error


def monday_of(text: str) -> date:
    """The Monday of "2026-W10" or of any day of that week. Raises ValueError."""
    if match := _WEEK_NAME.fullmatch(text):
        return date.fromisocalendar(int(match[1]), int(match[2]), 1)
    day = date.fromisoformat(text)
    return day - timedelta(days=day.weekday())


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_ZONES


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a day: a skipped midnight counts by the clock before the change."""
    wall = datetime.combine(day, time(), zone)
    instant = wall.astimezone(UTC)
    # The clock before the change counts past it where the change is not at midnight itself.
    seen = instant.astimezone(zone)
    if seen.replace(tzinfo=None) == wall.replace(tzinfo=None):
        return instant
    return _first_of(day, zone, instant)


def _first_of(day: date, zone: ZoneInfo, after: datetime) -> datetime:
    """The first second of the day whose midnight is skipped, at most two days before `after`."""
    low, high = int(after.timestamp()) - 2 * 86_400, int(after.timestamp())
    while low < high:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).date() < day:
            low = middle + 1
        else:
            high = middle
    return datetime.fromtimestamp(low, UTC)
