"""Times with a form of their own: "half a year ago", "the week before last", "at Christmas"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta

from luma_memory.providers.completion.extract import date_values as values
from luma_memory.providers.completion.extract.date_rule import (
    DIGIT,
    FULL_YEAR,
    OUTER_BAR,
    TIME,
    WEEKDAY,
    YEAR_OF_FOUR,
    Resolver,
    Rule,
    any_of,
    around,
    compiled,
)
from luma_memory.providers.completion.extract.date_values import Tense, Unit
from luma_memory.providers.completion.extract.vocabulary import DateWords, Feast

_HALF = "half|halben|halbes|demi|demie|medio|media|mezzo|mezza|meio|meia|half|halve|halbe"
_BEGINNING = re.compile(r"[^\W\d_]+")
_UNITS: tuple[Unit, ...] = ("day", "week", "weekend", "month", "year")


def idiom_rules(words: DateWords, weekdays: Mapping[str, int]) -> list[Rule]:
    """Rules that are tried before those of counted and shifted units."""
    return [
        *_halves_and_fortnights(words),
        *_twice_shifted(words),
        *_weeks_from(words, weekdays),
        *_weeks_ago_on(words, weekdays),
        *(rule for feast in words.feasts for rule in _feast(words, feast)),
        *_named_weekdays(words),
    ]


def day_alone_rules(words: DateWords) -> list[Rule]:
    """ "on the 25th": the nearest 25th in the direction of the tense, not read without one. Tried
    after all others."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return values.day_without_month(base, int(m["day"]), tense)

    if not words.day_alone:
        return []
    return [Rule(compiled(words.day_alone), resolve, DIGIT, needs_tense=True)]


def _halves_and_fortnights(words: DateWords) -> list[Rule]:
    def shifted(unit: Unit, steps: int) -> Resolver:
        return lambda m, base, tense: values.shifted(base, unit, steps)

    def without_value(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return None

    steps: list[tuple[str, Unit, int]] = [
        (words.half_year, "month", 6),
        (words.fortnight, "week", 2),
    ]
    # "half a month ago" is not "a month ago".
    parts = "|".join(words.units.values())
    halves = [
        Rule(compiled(form), without_value, TIME, vague=True)
        for before, after in (
            (words.ago_before, words.ago_after),
            (words.ahead_before, words.ahead_after),
        )
        for form in around(before, rf"(?:{_HALF}) (?:a |an )?(?:{parts})", after)
    ]
    return [
        Rule(compiled(form), shifted(unit, sign * count), TIME)
        for phrase, unit, count in steps
        if phrase
        for sign, before, after in (
            (-1, words.ago_before, words.ago_after),
            (1, words.ahead_before, words.ahead_after),
        )
        for form in around(before, f"(?:{phrase})", after)
    ] + halves


def _twice_shifted(words: DateWords) -> list[Rule]:
    unit = "(?:" + "|".join(f"(?P<{name}>{form})" for name, form in words.unit.items()) + ")"

    def resolver(steps: int) -> Resolver:
        def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
            named = m.groupdict()
            return values.shifted(base, next(u for u in _UNITS if named.get(u)), steps)

        return resolve

    return [
        Rule(compiled(form), resolver(steps), TIME)
        for steps, before, after in (
            (-2, words.before_last_before, words.before_last_after),
            (2, words.after_next_before, words.after_next_after),
        )
        for form in around(before, unit, after)
    ]


def _weeks_from(words: DateWords, weekdays: Mapping[str, int]) -> list[Rule]:
    """ "a week from Monday", "two weeks from tomorrow"."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        text = " ".join(m["n"].lower().split())
        count = int(text) if text.isdecimal() else words.numerals[text]
        name = m["from"].lower()
        start = (
            values.weekday(base, weekdays[name], "future")
            if name in weekdays
            else values.shifted(base, "day", int(name == words.tomorrow))
        )
        if start is None:
            return None
        return values.shifted(date.fromisoformat(start), "day", 7 * count)

    names = rf"(?P<from>{any_of(weekdays)}|{words.today}|{words.tomorrow})"
    count = rf"(?P<n>\d{{1,2}}|{any_of(words.numerals)}) (?:{words.units['week']})"
    patterns = []
    if words.weeks_from:
        patterns.append(rf"{count} (?:{words.weeks_from}) {names}")
    if words.weeks_after:
        patterns.append(rf"{names} (?:{words.weeks_after}) {count}")
    return [Rule(compiled(pattern), resolve, TIME) for pattern in patterns]


def _weeks_ago_on(words: DateWords, weekdays: Mapping[str, int]) -> list[Rule]:
    """ "a week ago Monday": where counting from that weekday and from this week agree."""

    def resolve(m: re.Match[str], base: date, tense: Tense) -> str | None:
        text = " ".join(m["n"].lower().split())
        count = int(text) if text.isdecimal() else words.numerals[text]
        index = weekdays[m["weekday"].lower()]
        last = values.weekday(base, index, "past")
        if last is None:
            return None
        try:
            counted = date.fromisoformat(last) - timedelta(days=7 * count)
            of_week = base - timedelta(days=base.weekday() - index + 7 * count)
        except OverflowError:
            return None
        return counted.isoformat() if counted == of_week else None

    if not words.weekday_ago:
        return []
    pattern = (
        rf"(?P<n>\d{{1,2}}|{any_of(words.numerals)}) (?:{words.units['week']}) "
        rf"(?:{words.weekday_ago}) (?P<weekday>{any_of(weekdays)})"
    )
    return [Rule(compiled(pattern), resolve, WEEKDAY, vague=True)]


def _named_weekdays(words: DateWords) -> list[Rule]:
    """ "Black Friday", "Mardi gras": a weekday's name that is not that of a day of this week."""

    def without_value(m: re.Match[str], base: date, tense: Tense) -> str | None:
        return None

    if not words.named_weekdays:
        return []
    return [Rule(compiled(words.named_weekdays), without_value, WEEKDAY, vague=True)]


def _feast(words: DateWords, feast: Feast) -> list[Rule]:
    """With a time word before it, or with a year: the name alone may be a person's."""

    def side(m: re.Match[str], tense: Tense) -> Tense:
        before, after = m["before"] or "", m["after"] or ""
        for found, befores, afters in (
            ("past", words.past_before, words.past_after),
            ("future", words.next_before, words.next_after),
        ):
            if re.fullmatch(befores or "(?!)", before, re.IGNORECASE) or re.fullmatch(
                afters or "(?!)", after, re.IGNORECASE
            ):
                return "past" if found == "past" else "future"
        return tense

    def nearest(m: re.Match[str], base: date, tense: Tense) -> str | None:
        if day_of is not None:
            return values.feast(base, day_of, side(m, tense))
        return values.day_without_year(base, feast.month, feast.day, side(m, tense))

    def of_year(m: re.Match[str], base: date, tense: Tense) -> str | None:
        year = int(m["year"])
        return day_of(year).isoformat() if day_of else values.day(year, feast.month, feast.day)

    day_of = _movable(feast)
    needs = WEEKDAY if feast.weekday else TIME
    parts = _beginnings(feast.phrase)

    no_compound = rf"(?![-'’\w])(?! (?:{words.feast_compounds})\b)" if words.feast_compounds else ""
    befores = "|".join(filter(None, [words.feast_before, words.past_before, words.next_before]))
    afters = "|".join(filter(None, [words.past_after, words.next_after])) or "(?!)"
    name = f"(?:{feast.phrase})"
    return [
        Rule(
            compiled(rf"{name},? (?:of |de |del )?{YEAR_OF_FOUR}"), of_year, FULL_YEAR, parts=parts
        ),
        Rule(
            compiled(
                rf"(?P<before>{befores}) (?:the )?{name}(?: (?P<after>{afters}))?{no_compound}"
            ),
            nearest,
            needs,
            parts=parts,
        ),
        *(
            [
                Rule(
                    compiled(rf"(?P<before>){name} (?P<after>{afters})"),
                    nearest,
                    needs,
                    parts=parts,
                )
            ]
            if afters != "(?!)"
            else []
        ),
    ]


def _beginnings(phrase: str) -> Sequence[str]:
    """The first letters of each alternative; none if one has no fixed beginning. A dozen feasts
    have rules that would all be tried on each text with a time."""
    found = [_BEGINNING.match(alternative) for alternative in OUTER_BAR.split(phrase)]
    return [match[0].lower() for match in found if match] if all(found) else ()


def _movable(feast: Feast) -> Callable[[int], date] | None:
    if feast.easter is not None:
        days = feast.easter
        return lambda year: _easter(year) + timedelta(days=days)
    if feast.thanksgiving is not None:
        days = feast.thanksgiving
        return lambda year: _fourth_thursday(year) + timedelta(days=days)
    return None


def _easter(year: int) -> date:
    """Easter Sunday. Source: Meeus, Astronomical Algorithms, chapter 8."""
    century, of_century = divmod(year, 100)
    golden = year % 19
    moon_shift = (century - (century + 8) // 25 + 1) // 3
    epact = (19 * golden + century - century // 4 - moon_shift + 15) % 30
    leap, rest = divmod(of_century, 4)
    sunday = (32 + 2 * (century % 4) + 2 * leap - epact - rest) % 7
    late = (golden + 11 * epact + 22 * sunday) // 451
    month, day = divmod(epact + sunday - 7 * late + 114, 31)
    return date(year, month, day + 1)


def _fourth_thursday(year: int) -> date:
    first = date(year, 11, 1)
    return first + timedelta(days=(3 - first.weekday()) % 7 + 21)
