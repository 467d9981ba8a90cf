"""Days, weeks, months and years written as ISO 8601, and how words shift them.

A day is "2023-05-07", a month "2023-05", a year "2023". A week or a weekend has no such form,
so it is the interval of its first and last day, "2023-05-01/2023-05-07"; weeks begin on Monday.
Every function returns None outside the years 1 to 9999.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["day", "week", "weekend", "month", "year"]
Tense: TypeAlias = Literal["past", "future"]

_MAX_STEPS = 100_000
_MAX_DAYS_AHEAD = 270


def shifted(base: date, unit: Unit, steps: int) -> str | None:
    """The unit that lies `steps` of its kind after (before, if negative) the one `base` is in."""
    if abs(steps) > _MAX_STEPS:
        return None
    match unit:
        case "day":
            return _iso_day(base, steps)
        case "week":
            return _interval(base, 7 * steps - base.weekday(), 7)
        case "weekend":
            return _interval(base, 7 * steps - base.weekday() + 5, 2)
        case "month":
            return _iso_month(base, steps)
        case "year":
            return _iso_year(base.year + steps)


def shifted_to_the_day(base: date, unit: Unit, steps: int) -> str | None:
    """ "Two years ago today": the same day of another week, month or year, where there is one."""
    if abs(steps) > _MAX_STEPS:
        return None
    match unit:
        case "day":
            return _iso_day(base, steps)
        case "week":
            return _iso_day(base, 7 * steps)
        case "weekend":
            return None
        case "month":
            years, index = divmod(base.month - 1 + steps, 12)
            return day(base.year + years, index + 1, base.day)
        case "year":
            return day(base.year + steps, base.month, base.day)


def weekday(base: date, index: int, tense: Tense) -> str | None:
    """The nearest such weekday (Monday 0) before or after `base`, never `base` itself."""
    ahead = (index - base.weekday()) % 7 or 7
    return _iso_day(base, ahead if tense == "future" else (ahead - 7) or -7)


def weekday_here(base: date, index: int) -> str | None:
    """The first such weekday at or after `base`."""
    return _iso_day(base, (index - base.weekday()) % 7)


def noon(base: date) -> datetime:
    """An instant of that day, in UTC."""
    return datetime.combine(base, time(12), UTC)


def day(year: int, month: int, number: int) -> str | None:
    """A calendar day, if there is one."""
    try:
        return date(year, month, number).isoformat()
    except ValueError:
        return None


def day_without_year(base: date, month: int, number: int, tense: Tense) -> str | None:
    """The nearest such day in the direction of the tense; `base` itself counts for both.

    A day most of a year ahead is taken as just past: "the sprint ends on March 29", in April.
    """
    year = base.year
    if tense == "past" and (month, number) > (base.month, base.day):
        year -= 1
    if tense == "future" and (month, number) < (base.month, base.day):
        year += _days_to_next(base, month) <= _MAX_DAYS_AHEAD
    # 29 February: the nearest year that has one.
    step = -1 if tense == "past" else 1
    return next(filter(None, (day(year + step * n, month, number) for n in range(8))), None)


def day_without_month(base: date, number: int, tense: Tense) -> str | None:
    """The nearest such day of a month in the tense's direction; `base` counts for both."""
    step = -1 if tense == "past" else 1
    here = step if (number > base.day) == (tense == "past") and number != base.day else 0
    for months_away in (here, here + step):
        year, index = divmod(base.year * 12 + base.month - 1 + months_away, 12)
        if 1 <= year <= 9999 and (found := day(year, index + 1, number)):
            return found
    return None


def feast(base: date, day_of: Callable[[int], date], tense: Tense) -> str | None:
    """The nearest feast on the side of the tense, where it is on another day each year."""
    if not 1 < base.year < 9999:
        return None
    this = day_of(base.year)
    found = day_without_year(base, this.month, this.day, tense)
    return found and day_of(int(found[:4])).isoformat()


def last_day(year: int, number: int) -> str | None:
    """The last day of a month."""
    if not (1 <= year <= 9999 and 1 <= number <= 12):
        return None
    return date(year, number, monthrange(year, number)[1]).isoformat()


def _days_to_next(base: date, month: int) -> int:
    """Approximate, to avoid dates beyond the year 9999."""
    return ((month - base.month) % 12 or 12) * 30 - base.day


def month(year: int, number: int) -> str | None:
    return f"{year:04d}-{number:02d}" if 1 <= year <= 9999 and 1 <= number <= 12 else None


def month_without_year(base: date, number: int, tense: Tense) -> str | None:
    """The nearest such month in the direction of the tense; the month of `base` counts for both."""
    past_year = base.year - (number > base.month)
    future_year = base.year + (number < base.month)
    return month(past_year if tense == "past" else future_year, number)


def month_beside(base: date, number: int, tense: Tense) -> str | None:
    """ "last March", "next March": never the month of `base` itself."""
    if tense == "past":
        return month(base.year - (number >= base.month), number)
    return month(base.year + (number <= base.month), number)


def _iso_day(base: date, days: int) -> str | None:
    try:
        return (base + timedelta(days=days)).isoformat()
    except OverflowError:
        return None


def _interval(base: date, first: int, length: int) -> str | None:
    begin, end = _iso_day(base, first), _iso_day(base, first + length - 1)
    return f"{begin}/{end}" if begin and end else None


def _iso_month(base: date, steps: int) -> str | None:
    years, index = divmod(base.month - 1 + steps, 12)
    return month(base.year + years, index + 1)


def _iso_year(year: int) -> str | None:
    return f"{year:04d}" if 1 <= year <= 9999 else None
