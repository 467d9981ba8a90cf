"""Whether two values of an attribute may be one value in two spellings.

A second spelling ("+49 176 5550101", "0176 5550101") changes nothing, so doubt ends in "the same".
"""

from __future__ import annotations

import re
from typing import Final

# The digits of a telephone number behind the prefixes of country and trunk.
_LOCAL_DIGITS: Final = 7
_ORDINAL: Final = re.compile(r"(?<=\d)(?:st|nd|rd|th|er|\.)(?!\w)")
_LINK: Final = re.compile(r"\b(?:the|of|de|di|le|el|il|am)\b")
_GROUPED: Final = re.compile(r"(?<=\d)[.,'](?=\d{3}(?!\d))")
_CURRENCIES: Final = (
    (re.compile(r"\$|dollars?|usd"), "$"),
    (re.compile(r"€|euros?|eur"), "€"),
    (re.compile(r"£|pounds?|gbp"), "£"),
)
_AMOUNT: Final = re.compile(r"(\d+(?:[.,]\d+)?)\s?(k?)")


def same_value(kind: str, one: str, other: str) -> bool:
    """kind: as in `relation_forms.toml`; values: as its forms match them."""
    if is_part(one, other) or is_part(other, one):
        return True
    if kind == "phone":
        return _is_one_number(*(re.sub(r"\D", "", value) for value in (one, other)))
    plain = {"money": _amount, "date": _day}.get(kind, _words)
    return plain(one.casefold()) == plain(other.casefold())


def is_part(one: str, other: str) -> bool:
    """Whether every word of the one is in the other: "Google" and "Google Cloud"."""
    return set(one.casefold().split()) <= set(other.casefold().split())


def _is_one_number(one: str, other: str) -> bool:
    if min(len(one), len(other)) < _LOCAL_DIGITS:
        return one == other
    # With and without the country, or an extension.
    is_extended = one.startswith(other) or other.startswith(one)
    return one[-_LOCAL_DIGITS:] == other[-_LOCAL_DIGITS:] or is_extended


def _amount(text: str) -> tuple[str, float | None]:
    for pattern, symbol in _CURRENCIES:
        text = pattern.sub(symbol, text)
    match = _AMOUNT.search(_GROUPED.sub("", text))
    if match is None:
        return text, None
    value = float(match[1].replace(",", ".")) * (1000 if match[2] else 1)
    return re.sub(r"[\d.,'\sk]", "", text), value


def _day(text: str) -> list[str]:
    """The number and the first letters of the month, in any order."""
    words = _LINK.sub(" ", _ORDINAL.sub("", text)).split()
    return sorted(word[:3] for word in words)


def _words(text: str) -> str:
    """A color's article and both spellings of gray count as nothing."""
    return re.sub(r"[\s/.,'-]", "", _LINK.sub(" ", text).replace("grey", "gray"))
