"""The order of day, month and year in numeric dates, decided from all dates of a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Final, TypeAlias

from luma_memory.importers.records import DateOrder, NeedsChoice

_YEAR_LAST: Final[tuple[DateOrder, ...]] = ("dmy", "mdy")
_CENTURY_PIVOT: Final = 70  # two-digit years: 70..99 belong to the last century


# As written: three numbers and their separator.
WrittenDate: TypeAlias = tuple[str, str, str, str]


def decide_order(dates: Iterable[WrittenDate]) -> DateOrder:
    """The order of day, month and year proven by all dates together.

    dates: in the file's order. A leading four-digit year means year-month-day everywhere, dots are
    day.month.year everywhere (CLDR). Otherwise the only order in which all dates exist and none is
    earlier than the one before it. Raises NeedsChoice if two orders qualify, or none: the order of
    a date is never guessed.
    """
    seen = list(dict.fromkeys(dates))
    written = [numbers[:3] for numbers in seen]
    if all(len(first) == 4 for first, _, _ in written):
        return "ymd"
    possible = [order for order in _YEAR_LAST if _all_exist(written, order)]
    if "dmy" in possible and all(sign == "." for *_, sign in seen):
        return "dmy"
    if len(possible) > 1:
        rising = [order for order in possible if _rises(written, order)]
        possible = rising or possible
    if len(possible) != 1:
        example = "/".join(written[0]) if written else "none"
        raise NeedsChoice(
            f"The dates of the file (such as {example}) can be read as day first or as month first;"
            " say which with --date-order dmy, mdy or ymd",
            code="date_order_ambiguous",
        )
    return possible[0]


def to_date(written: tuple[str, str, str], order: DateOrder) -> date | None:
    """The date, or None if these numbers are no date in this order."""
    numbers = dict(zip(order, map(int, written), strict=True))
    year = numbers["y"]
    if year < 100:
        year += 1900 if year >= _CENTURY_PIVOT else 2000
    try:
        return date(year, numbers["m"], numbers["d"])
    except ValueError:
        return None


def _all_exist(written: Sequence[tuple[str, str, str]], order: DateOrder) -> bool:
    return all(to_date(numbers, order) is not None for numbers in written)


def _rises(written: Sequence[tuple[str, str, str]], order: DateOrder) -> bool:
    days = [to_date(numbers, order) for numbers in written]
    known = [day for day in days if day is not None]
    return all(earlier <= later for earlier, later in pairwise(known))
