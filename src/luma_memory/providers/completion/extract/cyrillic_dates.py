"""Counted and shifted units of time in Russian and Ukrainian, which dateparser reads in part only:
"три дня назад", "через две недели", "на прошлой неделе".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from luma_memory.providers.completion.extract import date_values as values
from luma_memory.providers.completion.extract.date_values import Unit

_NUMERALS: Final = {
    word: number
    for number, words in enumerate(
        (
            "один одну одна", "два две дві", "три", "четыре чотири", "пять п'ять п’ять",
            "шесть шість", "семь сім", "восемь вісім", "девять дев'ять дев’ять", "десять",
            "одиннадцать одинадцять", "двенадцать дванадцять",
        ),
        1,
    )
    for word in words.split()
}  # fmt: skip
_UNITS: Final[dict[Unit, str]] = {
    "day": "день|дня|дней|дні|днів",
    "week": "недел[юиеь]|недель|тиждень|тижні|тижнів|тижня|тижні",
    "month": "месяца?|месяцев|месяце|місяць|місяці|місяців|місяця",
    "year": "года?|году|лет|рік|роки|років|році",
}
_UNIT: Final = "(?:" + "|".join(f"(?P<{unit}>{form})" for unit, form in _UNITS.items()) + ")"
_COUNT: Final = rf"(?:(?P<n>(?<!\d)\d{{1,3}}|{'|'.join(_NUMERALS)})\s+)?"
_FORMS: Final = tuple(
    (re.compile(rf"(?<![\w-]){form}(?!\w)", re.IGNORECASE), sign)
    for form, sign in (
        (rf"{_COUNT}{_UNIT}\s+(?:тому\s+)?(?:назад|тому)", -1),
        (rf"через\s+{_COUNT}{_UNIT}", 1),
        (rf"(?:[вн]а?|у)\s+(?:прошл|минул)\w+\s+{_UNIT}", -1),
        (rf"(?:[вн]а?|у)\s+(?:следующ|наступн)\w+\s+{_UNIT}", 1),
        (rf"(?:[вн]а?|у)\s+(?:эт|ц)\w+\s+{_UNIT}", 0),
    )
)
# "пол месяца назад", "дней пять назад", "полтора года назад": another count, or none.
_OTHER_COUNT: Final = re.compile(r"(?:пол|полтор\w|пів|[\d.,])\s*$", re.IGNORECASE)


# "от 3 до 5 ноября": an interval, which neither this module nor dateparser reads.
_RANGE: Final = re.compile(
    r"(?<!\w)(?:от|со?|між|между|від|з)\s+\d{1,2}(?:-?го)?\s+(?:до|по|и|і|й|та)\s+\d{1,2}(?:-?го)?"
    r"(?:\s+[^\W\d_]+)?",
    re.IGNORECASE,
)


def found(text: str, base: date) -> Iterator[tuple[int, int, str | None]]:
    """Start, end and ISO 8601 value (`date_values`); None where the count is not certain."""
    for interval in _RANGE.finditer(text):
        yield *interval.span(), None
    for pattern, sign in _FORMS:
        for match in pattern.finditer(text):
            groups = match.groupdict()
            number = groups.get("n")
            count = _NUMERALS.get(number.lower()) if number else 1
            if number and number.isdecimal():
                count = int(number)
            unit = next(unit for unit in _UNITS if groups.get(unit))
            is_other = _OTHER_COUNT.search(text, max(0, match.start() - 12), match.start())
            if count is None or is_other is not None:
                yield *match.span(), None
            else:
                yield *match.span(), values.shifted(base, unit, sign * count)
