"""Expressions of time in the languages with a vocabulary: one compiled pattern per form.

dateparser agrees on the forms it knows (verified by a test), but takes half a millisecond
for each and knows few of the inflected ones ("letzten Freitag", "el viernes pasado").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from itertools import islice
from typing import Final, cast

from luma_memory.providers.completion.extract import date_values as values
from luma_memory.providers.completion.extract.date_idioms import day_alone_rules, idiom_rules
from luma_memory.providers.completion.extract.date_ranges import range_rules
from luma_memory.providers.completion.extract.date_rule import (
    DAY,
    DIGIT,
    FULL_YEAR,
    MONTH,
    OUTER_BAR,
    TIME,
    WEEKDAY,
    YEAR_OF_FOUR,
    Resolver,
    Rule,
    Trigger,
    any_of,
    around,
    compiled,
    gap_then,
    month_number,
)
from luma_memory.providers.completion.extract.date_values import Tense, Unit
from luma_memory.providers.completion.extract.date_weekdays import weekday_rules
from luma_memory.providers.completion.extract.vocabulary import DateWords, vocabulary

# Weekdays spelled out in no more than five letters.
_SHORT = frozenset({"lunes", "lundi", "mardi", "jeudi"})

# A word in a fragment of a pattern, with the endings it may have: `tag(?:e|en)?`, `giorn[oi]`.
_PIECE = re.compile(r"[^\W\d_][\w'’-]*\??(?:\(\?:[\w|]+\)\??|\[\w+\])?")


@dataclass(frozen=True, slots=True)
class Grammar:
    """Rules in the order of their precedence, and the words without which they cannot match."""

    rules: tuple[Rule, ...]
    triggers: Mapping[str, Trigger]  # words in lower case
    future: re.Pattern[str]
    future_nouns: re.Pattern[str]  # ahead, unless the sentence has a verb of `past_verbs`
    past_verbs: re.Pattern[str]
    present: re.Pattern[str]
    participles: re.Pattern[str]
    appointments: re.Pattern[str]
    every: frozenset[str]
    range_from: re.Pattern[str]  # at the end of what is before the first date
    range_to: re.Pattern[str]  # between the two


@cache
def grammar(language: str) -> Grammar | None:
    """The rules of a language; None where it has no vocabulary. Compiled once."""
    words = vocabulary(language).dates
    if words is None:
        return None
    return Grammar(
        rules=tuple(_rules(words)),
        triggers=_triggers(words),
        future=re.compile(rf"(?<!\w)(?:{words.future})(?!\w)|(?:'|’)ll\b", re.IGNORECASE),
        future_nouns=_words_in_text(words.future_nouns),
        past_verbs=_words_in_text(words.past_verbs),
        present=_words_in_text(words.present),
        participles=_words_in_text(words.participles),
        appointments=_words_in_text(words.appointments),
        every=frozenset(words.every.split()),
        range_from=re.compile(rf"(?<!\w)(?:{words.range_from})\s+\Z", re.IGNORECASE),
        range_to=re.compile(rf",?\s+(?:{words.range_to})\s+(?:the )?", re.IGNORECASE),
    )


def _words_in_text(alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)


def _rules(words: DateWords) -> list[Rule]:
    months = {name: n for n, names in enumerate(words.months, 1) for name in names.split()}
    days = {name: n for n, names in enumerate(words.weekdays) for name in re.split(r"[ |]", names)}
    return [
        *range_rules(words, months, days),
        *weekday_rules(words, months, days),
        *_numeric(words),
        *_calendar(words, months),
        *idiom_rules(words, days),
        *_counted(words),
        *_shifted(words),
        *_beside(words, months, days),
        *(_named_day(words, entry.phrase, entry.offset) for entry in words.days),
        *_lone(words, months, days),
        *day_alone_rules(words),
    ]


def _numeric(words: DateWords) -> list[Rule]:
    def iso(m: re.Match[str], base: date, tense: Tense) -> str | None:
        if m["s"] == "." and not _is_placed(m):
            return None  # "Version 2026.3.1"
        return values.day(int(m["year"]), int(m["month"]), int(m["day"]))

    def iso_month(m: re.Match[str], base: date, tense: Tense) -> str | None:
        if _IDENTIFIED.search(_text_before(m)) is not None:
            return None  # "Order 2023-11"
        return values.month(int(m["year"]), int(m["month"]))

    def ordered(m: re.Match[str], base: date, tense: Tense) -> str | None:
        if m["sep"] == "." and not _is_dotted_date(m, words.order):
            return None
        return _ordered(int(m["a"]), int(m["b"]), m["year"], _order_of(words, m))

    def day_and_month(m: re.Match[str], base: date, tense: Tense) -> str | None:
        if values.day(2000, int(m["month"]), int(m["day"])) is None:
            return None
        return values.day_without_year(base, int(m["month"]), int(m["day"]), tense)

    number = r"\d{1,2}"
    short = rf"(?:{words.day_and_month}) (?P<day>{number})\.(?P<month>{number})\.(?!\d)"
    time = r"(?:T\d\d:?\d\d[\d:.]{0,12}(?:Z|[+-]\d\d:?\d\d)?)?"
    return [
        Rule(
            _compiled_number(
                rf"{YEAR_OF_FOUR}(?P<s>[-/.])(?P<month>{number})(?P=s)(?P<day>{number})"
                rf"(?![\d/]){time}"
            ),
            iso,
            FULL_YEAR,
        ),
        Rule(
            _compiled_number(rf"{YEAR_OF_FOUR}-(?P<month>0[1-9]|1[0-2])(?![\d-])"),
            iso_month,
            FULL_YEAR,
        ),
        Rule(
            _compiled_number(
                rf"(?P<a>{number})(?P<sep>[./-])(?P<b>{number})(?P=sep)"
                rf"(?P<year>\d{{4}}|\d{{2}})(?![\d./-]\d)"
            ),
            ordered,
            DIGIT,
        ),
        *([Rule(compiled(short), day_and_month, DIGIT)] if words.day_and_month else []),
    ]


def _compiled_number(pattern: str) -> re.Pattern[str]:
    """Not a part of a longer number: an address, a version, a telephone number."""
    return re.compile(
        rf"(?<![\w/])(?<!\d[.:,-])(?<![\w][-_])(?:{pattern})(?!\w|[.:]\d|-\w)", re.IGNORECASE
    )


# Words followed by a version, an address or a number: "Upgraded to 1.2.26".
_NUMBERED: Final = re.compile(
    r"(?:\b(?:v|ver|version|versión|versione|versão|versie|release|build|rev|revision|firmware|tag"
    r"|python|node|java|ubuntu|debian|android|ios|macos|windows|kernel|postgres|postgresql|chrome"
    r"|host|ip|server|address|port|section|chapter|kapitel|abschnitt|clause|paragraph|figure|page"
    r"|room|folder|shelf|article|rule|step|ordner|fach|regal|raum|zimmer|seite|absatz|regel|artikel"
    r"|capítulo|sección|artículo|página|sala|chapitre|salle|capitolo|upgraded?|updated?|downgraded?"
    r"|aktualisiert|install(?:ed|iert)?|released?|pip|npm|package|paket|model|modell)\b"
    r"[\s:=#v]*(?:to|from|auf|von|à|a|is|ist)?\s*)$",
    re.IGNORECASE,
)
_DAY_BEFORE: Final = re.compile(
    r"(?<![\w.,:/-])(\d{1,2})(?:st|nd|rd|th|er|\.)?(?: (?:of|de|di))? $"
)
# Words followed by a number of their own: "Invoice 2024-05".
_IDENTIFIED: Final = re.compile(
    r"\b(?:order|invoice|ticket|case|issue|file|contract|part|serial|number|id|ref|no|nr|num|item|model|modell|type|typ"
    r"|bestellung|auftrag|rechnung|vorgang|akte|nummer|pedido|factura|número|expediente|commande"
    r"|facture|numéro|dossier|ordine|fattura|numero|pratica|fatura|processo|bestelling|factuur"
    r"|dossier)\b[\s.:#]*(?:is |ist |es |est |è |é )?$",
    re.IGNORECASE,
)
_BEFORE_DATE: Final = re.compile(
    r"(?:^|[\n\[(]|\b(?:on|by|until|till|since|from|dated|am|vom|zum|bis|seit|ab|den|le|du|au|el|del"
    r"|al|il|dal|op|em|dia)\s)$",
    re.IGNORECASE,
)


def _is_dotted_date(m: re.Match[str], order: str) -> bool:
    """Whether "1.2.26" is a date: versions look the same, so the context must show it."""
    if _NUMBERED.search(_text_before(m)) is not None:
        return False
    if len(m["year"]) == 4 or _is_placed(m):
        return True
    return order == "dmy" and len(m["a"]) == len(m["b"]) == 2


def _is_placed(m: re.Match[str]) -> bool:
    return _BEFORE_DATE.search(_text_before(m)) is not None


def _text_before(m: re.Match[str]) -> str:
    return m.string[max(0, m.start() - 24) : m.start()]


def _order_of(words: DateWords, m: re.Match[str]) -> str:
    """Dots are never used month first, whatever the language. If a text has a date that can
    only be in one order, all its dates are read in that order."""
    if m["sep"] == ".":
        return "dmy"
    return _proven_order(m.string) or words.order


_SLASHED: Final = re.compile(r"(?<![\w/.-])(\d{1,2})([/-])(\d{1,2})\2(?:\d{4}|\d{2})(?![\w/-])")
_SLASHED_MAX: Final = 200


@lru_cache(maxsize=8)
def _proven_order(text: str) -> str | None:
    """ "[13/04/26] … [03/05/26]": day first. None where no date proves it, or two disagree."""
    orders = set()
    for match in islice(_SLASHED.finditer(text), _SLASHED_MAX):
        first, second = int(match[1]), int(match[3])
        if 12 < first <= 31 and second <= 12:
            orders.add("dmy")
        if 12 < second <= 31 and first <= 12:
            orders.add("mdy")
    return orders.pop() if len(orders) == 1 else None


def _ordered(first: int, second: int, year_digits: str, order: str) -> str | None:
    """A day and a month in the order of the text, or in the only possible order."""
    year = int(year_digits) if len(year_digits) == 4 else 2000 + int(year_digits)
    if not 1900 <= year <= 2099:
        return None
    month, day = (first, second) if order == "mdy" else (second, first)
    return values.day(year, month, day) or values.day(year, day, month)


def _calendar(words: DateWords, months: Mapping[str, int]) -> list[Rule]:
    def month_of(m: re.Match[str]) -> int | None:
        return month_number(m["month"], months, words.months_need_capital)

    def full(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = month_of(m)
        if number is None:
            return None
        if m["year"]:
            return values.day(int(m["year"]), number, int(m["day"]))
        return values.day_without_year(base, number, int(m["day"]), tense)

    def short_year(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = month_of(m)
        return values.day(2000 + int(m["yy"]), number, int(m["day"])) if number else None

    def month_of_short_year(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = month_of(m)
        return values.month(2000 + int(m["yy"]), number) if number else None

    def month_and_year(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = months.get(m["month"].lower())
        if number is None:
            return None
        day = _DAY_BEFORE.search(_text_before(m))
        if day is not None and values.day(int(m["year"]), number, int(day[1])) is None:
            return None  # "30 Feb 2026": no day, and so no month either
        return values.month(int(m["year"]), number)

    name = rf"(?P<month>{any_of(months)})"
    suffix = rf"(?:{words.day_suffix})?"
    year = gap_then(words.between_month_and_year)
    day = rf"(?:the )?{DAY}{suffix}"
    # "05 MAR 24", "5-Mar-24", "5 March '24", but not "5 March 24 people came".
    end = r"(?=\s*(?:[.,;!?)\]\n]|$)|\s+\d\d:\d\d)"
    forms = [
        (rf"{DAY}[ /-]{name}[ /-]'?(?P<yy>\d\d){end}", short_year),
        (rf"{DAY}{suffix} {name}\.? ['’](?P<yy>\d\d)", short_year),
        (rf"{name}\.? ['’](?P<yy>\d\d)", month_of_short_year),
        (
            rf"{day}{gap_then(words.between_day_and_month)}{name}\b(?:\.?{year}{YEAR_OF_FOUR})?",
            full,
        ),
        (rf"{name}\b\.?{year}{YEAR_OF_FOUR}", month_and_year),
    ]
    if words.order == "mdy":
        forms.insert(
            4, (rf"{name}\b\.? {{1,2}}(?:the )?{DAY}{suffix}(?:,? {{1,2}}{YEAR_OF_FOUR})?", full)
        )
    return [
        Rule(
            compiled(rf"{form}(?![\w:]|\.\d)"),
            resolve,
            MONTH | (FULL_YEAR if resolve is month_and_year else DIGIT),
        )
        for form, resolve in forms
    ]


def _counted(words: DateWords) -> list[Rule]:
    # "100,000 years ago" is not "000 years ago".
    number = rf"(?P<n>(?<![\d.,]\d)(?<!\d[.,])\d{{1,3}}|{any_of(words.numerals)})"
    unit, needed = _units(words.units), _words_of_units(words, words.units)

    def count(m: re.Match[str]) -> int:
        text = " ".join(m["n"].lower().split())
        return int(text) if text.isdecimal() else words.numerals[text]

    def ago(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.shifted(base, _unit(m), -count(m))

    def ahead(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.shifted(base, _unit(m), count(m))

    def without_value(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return None

    def ago_to_the_day(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.shifted_to_the_day(base, _unit(m), -count(m))

    before, after = words.ago_before, words.ago_after
    # "a few", "3 to 4", "two or three"
    both = rf"{number.replace('?P<n>', '?:')}(?: ?[-–] ?| (?:{words.range_to}|{words.either}) )"
    vague = rf"(?:{words.vague}|{both}{number.replace('?P<n>', '?:')})"
    on_this_day = (
        [rf"{form},? (?:{words.today})" for form in around(before, f"{number} {unit}", after)]
        if words.today
        else []
    )
    this_unit = rf"(?:{words.this_before}) (?:{'|'.join(words.unit.values())})"
    return [
        *(Rule(compiled(p), ago_to_the_day, TIME, needed) for p in on_this_day),
        *(
            Rule(compiled(rf"{p},? {this_unit}"), without_value, TIME, needed, vague=True)
            for p in around(before, f"{number} {unit}", after)
        ),
        *(
            Rule(compiled(p), without_value, TIME, needed, vague=True)
            for p in around(before, f"{vague} {unit}", after)
        ),
        *(Rule(compiled(p), ago, TIME, needed) for p in around(before, f"{number} {unit}", after)),
        *(
            Rule(compiled(p), without_value, TIME, needed, vague=True)
            for p in around(words.ahead_before, f"{vague} {unit}", words.ahead_after)
        ),
        *(
            Rule(compiled(p), ahead, TIME, needed)
            for p in around(words.ahead_before, f"{number} {unit}", words.ahead_after)
        ),
    ]


_OF: Final = re.compile(r" (?:of|der|des|vom|von|de|du|del|della|di|do|da|van)\b", re.IGNORECASE)


def _shifted(words: DateWords) -> list[Rule]:
    unit, needed = _units(words.unit), _words_of_units(words, words.unit)
    steps = {"past": -1, "this": 0, "next": 1}

    def rule(pattern: str, steps: int) -> Rule:
        def shifted(m: re.Match[str], base: date, tense: Tense) -> str | None:
            # "The last day of school", "the next day": counted from something else.
            if steps and (_unit(m) == "day" or _OF.match(m.string, m.end())):
                return None
            return values.shifted(base, _unit(m), steps)

        return Rule(compiled(pattern), shifted, TIME, needed)

    return [
        *(rule(p, steps["past"]) for p in around(words.past_before, unit, words.past_after)),
        *(rule(p, steps["next"]) for p in around(words.next_before, unit, words.next_after)),
        *(rule(p, steps["this"]) for p in around(words.this_before, unit, "")),
    ]


def _beside(words: DateWords, months: Mapping[str, int], days: Mapping[str, int]) -> list[Rule]:
    """ "last Friday", "next March", "this Sunday"."""
    weekday = rf"(?P<weekday>{any_of(days)})"
    month = rf"(?P<month>{any_of(_spelled_out(months))})"

    def on_weekday(tense: Tense) -> Resolver:
        return lambda m, base, _: values.weekday(base, days[m["weekday"].lower()], tense)

    def in_month(tense: Tense) -> Resolver:
        return lambda m, base, _: values.month_beside(base, months[m["month"].lower()], tense)

    def this_weekday(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.weekday_here(base, days[m["weekday"].lower()])

    before_after: list[tuple[Tense, str, str]] = [
        ("past", words.past_before, words.past_after),
        ("future", words.next_before, words.next_after),
    ]
    return [
        *(
            Rule(compiled(p), make(tense), needs)
            for tense, before, after in before_after
            for named, make, needs in (
                (weekday, on_weekday, WEEKDAY),
                (month, in_month, MONTH),
            )
            for p in around(before, named, after)
        ),
        *(Rule(compiled(p), this_weekday, WEEKDAY) for p in around(words.this_before, weekday, "")),
    ]


def _named_day(words: DateWords, phrase: str, offset: int) -> Rule:
    return Rule(
        compiled(phrase),
        lambda m, base, tense: values.shifted(base, "day", offset),
        TIME,
        _triggers_in(words, [phrase]),
        may_be_name=True,
    )


def _words_of_units(words: DateWords, forms: Mapping[str, str]) -> frozenset[str]:
    """Which triggers are units of time: "days", but not "yesterday"."""
    return _triggers_in(words, list(forms.values()))


def _triggers_in(words: DateWords, patterns: Sequence[str]) -> frozenset[str]:
    """The triggers that fragments of patterns are spelled with; none where one of their
    alternatives has no trigger of its own, so that any would do."""
    triggers = words.triggers.split()
    found: set[str] = set()
    for alternative in OUTER_BAR.split("|".join(patterns)):
        pieces = [re.compile(piece) for piece in _PIECE.findall(alternative)]
        own = {word for word in triggers if any(piece.fullmatch(word) for piece in pieces)}
        if not own:
            return frozenset()
        found |= own
    return frozenset(found)


def _lone(words: DateWords, months: Mapping[str, int], days: Mapping[str, int]) -> list[Rule]:
    """A weekday, "in March", "since 2019", "summer 2019", alone."""
    season = "|".join(words.seasons.split())
    long_days = {name: index for name, index in days.items() if len(name) > 5 or name in _SHORT}
    long_months = any_of(_spelled_out(months))

    def weekday(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.weekday(base, days[m["weekday"].lower()], tense)

    def in_month(m: re.Match[str], base: date, tense: Tense) -> str | None:
        number = month_number(m["month"], months, words.months_need_capital)
        return values.month_without_year(base, number, tense) if number else None

    def year(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return m["year"]

    return [
        Rule(compiled(rf"(?P<weekday>{any_of(long_days)})"), weekday, WEEKDAY, may_be_name=True),
        Rule(
            compiled(rf"(?<!\w)(?:{words.month_after}) (?P<month>{long_months})"), in_month, MONTH
        ),
        Rule(
            compiled(rf"(?:{season})(?: of| de| del| do)? {YEAR_OF_FOUR}(?!\s?[%€$]|\w|[.,]\d)"),
            year,
            FULL_YEAR,
        ),
        Rule(
            compiled(
                rf"(?:{words.year_after}) {YEAR_OF_FOUR}"
                rf"(?!\s?[%€$]|[.,:]?\d|[-/]\d|\s+[^\W\d_]{{3,}}s\b|\s+(?:{words.range_to})\s+\d)"
            ),
            year,
            FULL_YEAR,
        ),
    ]


def _triggers(words: DateWords) -> dict[str, Trigger]:
    kinds: list[tuple[Trigger, str]] = [
        ("time", words.triggers),
        ("month", " ".join(words.months)),
        ("weekday", " ".join(words.weekdays)),
    ]
    return {name: kind for kind, names in kinds for name in re.split(r"[ |]", names)}


def _units(forms: Mapping[str, str]) -> str:
    return "(?:" + "|".join(f"(?P<{unit}>{form})" for unit, form in forms.items()) + ")"


def _unit(match: re.Match[str]) -> Unit:
    named = match.groupdict()
    units = ("day", "week", "weekend", "month", "year")
    return cast("Unit", next(unit for unit in units if named.get(unit)))


def _spelled_out(months: Mapping[str, int]) -> dict[str, int]:
    """Without abbreviations: "in mar" is not a month. May is short in every language."""
    return {name: number for name, number in months.items() if len(name) > 3 or number == 5}
