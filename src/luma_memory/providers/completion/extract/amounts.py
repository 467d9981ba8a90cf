"""Numbers a text mentions: money, shares, measures, telephone numbers and long figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_AMOUNTS = 20

_FIGURE = r"(?:\d{1,3}(?:[.,' ]\d{3}){1,4}|\d{1,15})(?:[.,]\d{1,4})?"
_SCALE = (
    r"(?:\s?(?:k|m|bn|thousand|million|billion|mio|mrd|millones|millions|milioni|milhões|miljoen)"
    r"\b)?"
)
_CURRENCY = (
    r"(?:USD|EUR|GBP|CHF|JPY|CNY|INR|BRL|dollars?|euros?|pounds?|bucks|cents?|yen|francs?|franken"
    r"|pesos?|reais|dólares?|libras?|livres|sterline)"
)
_UNIT = (
    r"(?:km/h|mph|km|cm|mm|kg|mg|mb|gb|tb|kb|ms|min|mins|minutes?|minuten|minutos|minuti|hours?|hrs?"
    r"|stunden?|horas?|heures?|ore|uur|miles?|meters?|metres?|meter|metros?|mètres?|metri|feet"
    r"|inch(?:es)?|pounds|lbs?|oz|liters?|litres?|litros?|grams?|gramm|people|guests"
    r"|percent|prozent|por ciento|pour cent|per cento|por cento|procent|°[CF]?)"
)
_AMOUNT = re.compile(
    rf"(?<![\w.,/:#-])(?:"
    rf"(?P<money>[$€£¥₹]\s?{_FIGURE}{_SCALE}|{_FIGURE}{_SCALE}\s?(?:[$€£¥₹]|{_CURRENCY}\b))"
    rf"|(?P<share>{_FIGURE}\s?%)"
    rf"|(?P<measure>{_FIGURE}\s?{_UNIT}(?!\w))"
    rf"|(?P<phone>\+\d{{1,3}}(?:[ -]?\(?\d{{1,5}}\)?){{2,5}}"
    rf"|(?<!\d )0\d{{2,5}}(?:[ /-]\d{{2,8}}){{1,4}})"
    # A group of digits beside another is part of an account's or a card's number, and no figure.
    rf"|(?<!\d )(?P<figure>\d{{1,3}}(?:[.,]\d{{3}}){{1,4}}|\d{{3,15}}|\d{{1,9}}[.,]\d{{1,4}})"
    r"(?! \d)"
    rf")(?![.,]?\d)(?![\w:-])(?!/\d)",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its unit as written, at [start, end) of the text."""

    text: str
    start: int
    end: int


def amounts(text: str, taken: Sequence[tuple[int, int]]) -> list[Amount]:
    """Numbers outside the `taken` stretches (dates, links), in order of appearance."""
    first = _DIGIT.search(text)
    if first is None:
        return []
    found = []
    for match in _AMOUNT.finditer(text, max(0, first.start() - 3)):
        start, end = match.span()
        if any(start < right and left < end for left, right in taken):
            continue
        found.append(Amount(match[0], start, end))
        if len(found) == MAX_AMOUNTS:
            break
    return found
