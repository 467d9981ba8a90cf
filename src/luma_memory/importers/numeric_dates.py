"""The order of day, month and year in numeric dates, decided from all dates of a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Final, TypeAlias

from luma_memory.importers.records import DateOrder, NeedsChoice

_ORDERS: Final[tuple[DateOrder, ...]] = ("dmy", "mdy", "ymd")
_CENTURY_PIVOT: Final = 70  # two-digit years: 70..99 belong to the last century


# As written: three numbers and their separator.
WrittenDate: TypeAlias = tuple[str, str, str, str]


def decide_order(dates: Iterable[WrittenDate], *, possible: tuple[date, date]) -> DateOrder:
    """The order of day, month and year proven by all dates together.

    dates: in the file's order. possible: the first and the last day that can occur. A leading
    four-digit year means year-month-day everywhere, dots are day.month.year everywhere (CLDR).
    Otherwise the only order in which all dates can occur and none is earlier than the one before
    it. Raises NeedsChoice if two orders qualify, or none: the order of a date is never guessed.
    """
    seen = list(dict.fromkeys(dates))
    written = [numbers[:3] for numbers in seen]
    if all(len(first) == 4 for first, _, _ in written):
        return "ymd"
    orders = [order for order in _ORDERS if _all_occur(written, order, possible)]
    if "dmy" in orders and all(sign == "." for *_, sign in seen):
        return "dmy"
    if len(orders) > 1:
        rising = [order for order in orders if _rises(written, order)]
        orders = rising or orders
    if len(orders) != 1:
        example = "/".join(written[0])
        read = " or ".join(f"{order} ({to_date(written[0], order)})" for order in orders or _ORDERS)
        raise NeedsChoice(
            f"The dates of the file (such as {example}) can be read as {read}; say which with"
            " --date-order dmy, mdy or ymd",
            code="date_order_ambiguous",
        )
    return orders[0]


def to_date(written: tuple[str, str, str], order: DateOrder) -> date | None:
    """The date, or None if these numbers are no date in this order."""
    if len(written[order.index("y")]) not in (2, 4):
        return None
    numbers = dict(zip(order, map(int, written), strict=True))
    year = numbers["y"]
    if year < 100:
        year += 1900 if year >= _CENTURY_PIVOT else 2000
    try:
        return date(year, numbers["m"], numbers["d"])
    except ValueError:
        return None


def _all_occur(
    written: Sequence[tuple[str, str, str]], order: DateOrder, possible: tuple[date, date]
) -> bool:
    first, last = possible
    days = (to_date(numbers, order) for numbers in written)
    return all(day is not None and first <= day <= last for day in days)


def _rises(written: Sequence[tuple[str, str, str]], order: DateOrder) -> bool:
    days = [to_date(numbers, order) for numbers in written]
    known = [day for day in days if day is not None]
    return all(earlier <= later for earlier, later in pairwise(known))
