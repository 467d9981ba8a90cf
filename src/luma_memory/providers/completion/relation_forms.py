"""The closed forms of the relations without a model, from `relation_forms.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

_NAME: Final = (
    r"[A-ZÀ-ÖØ-Þ][\w'&-]*(?: (?:of|de|del|la|el|am|an der|upon|y|und|and) (?=[A-ZÀ-Þ])"
    r"[A-ZÀ-ÖØ-Þ][\w'&-]*| [A-ZÀ-ÖØ-Þ][\w'&-]*){0,3}"
)
# One or two words of any kind: "8080", "db1.example.com", "Bay 4".
_VALUE: Final = r"(?:[^\W_][\w.:/@#+-]*(?: [^\W_][\w.:/@#+-]*)?)"
_IS: Final = (
    r"(?:is|ist|beträgt|liegt bei|est|es|è)"
    r"(?: (?P<now>now|jetzt|nun|maintenant|désormais|ahora|ora|adesso))?"
)
# Languages whose words are not separated, or have endings.
_UNSPACED: Final = frozenset(["ja", "zh", "ko"])
_SINCE: Final = r"(?: (?P<since>now|jetzt|maintenant|désormais|ahora|adesso))?"
_CHANGED: Final = (
    r"(?P<changed>has changed to|changed to|hat sich geändert auf|a changé pour|cambió a)"
)


@dataclass(frozen=True, slots=True)
class StatementForm:
    """A whole sentence about where its speaker lives or works.

    Groups of the pattern: `value`, and in some forms `old` and `when`.
    """

    language: str
    subject: Literal["home", "work"]
    state: Literal["is", "changed", "ended"]
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class AttributeForm:
    """A whole sentence that gives an attribute a value of some kind.

    single: a person has one of it. Groups: `name`, `value`; `now`, `since` and `changed`
    if the sentence marks the value as new.
    """

    kind: str  # a name of the table `kinds`, or "color"
    single: bool
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class RelationForms:
    """Words are in lower case except for names; patterns match whole sentences."""

    doubt: frozenset[str]
    pronouns: frozenset[str]
    indefinite: frozenset[str]  # first words that leave open which person or thing is meant
    deictic: frozenset[str]
    deictic_parts: tuple[str, ...]  # parts of words of scripts without spaces
    momentary: frozenset[str]
    lasting: Mapping[str, re.Pattern[str]]  # by language
    events: Mapping[str, re.Pattern[str]]  # by language, also where `lasting` matches
    given_names: frozenset[str]
    not_employers: frozenset[str]
    countries: frozenset[str]
    towns: frozenset[str]
    regions: frozenset[str]  # some countries are parts of others
    one_place: Mapping[str, str]  # a name to the first one of the same place
    statements: tuple[StatementForm, ...]
    attributes: tuple[AttributeForm, ...]
    shifts: tuple[re.Pattern[str], ...]  # groups: `subject`, `old`, `value`
    link: str  # fragment: from the subject to the value


@cache
def relation_forms() -> RelationForms:
    """Read once per process."""
    path = resources.files(__package__) / "relation_forms.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return RelationForms(
        doubt=frozenset(table["doubt"].split()),
        pronouns=frozenset(table["pronouns"].split()),
        indefinite=frozenset(table["indefinite"].split()),
        deictic=frozenset(table["deictic"].split()),
        deictic_parts=tuple(part.replace("_", " ") for part in table["deictic_parts"].split()),
        momentary=frozenset(table["momentary"].split()),
        lasting=_by_language(table["lasting"]),
        events=_by_language(table["events"]),
        given_names=frozenset(table["given_names"].split()),
        not_employers=frozenset(table["not_employers"].split()),
        countries=frozenset(table["countries"].split()),
        towns=frozenset(_names(table["towns"])),
        regions=frozenset(_names(table["regions"])),
        one_place={
            name: _names(line)[0]
            for line in table["one_place"].splitlines()
            for name in _names(line)
        },
        statements=tuple(_statement_form(entry, table["when"]) for entry in table["forms"]),
        attributes=tuple(_attribute_form(entry, table) for entry in table["attributes"]),
        shifts=tuple(_shift(pattern) for pattern in table["shifts"]),
        link=table["link"],
    )


def _names(text: str) -> list[str]:
    return [name.replace("_", " ") for name in text.split()]


def _by_language(table: dict[str, str]) -> Mapping[str, re.Pattern[str]]:
    return {
        language: re.compile(
            forms if language in _UNSPACED else rf"(?<!\w)(?:{forms})(?!\w)", re.IGNORECASE
        )
        for language, forms in table.items()
    }


def _statement_form(entry: dict[str, Any], when: dict[str, str]) -> StatementForm:
    language = entry["language"]
    time = rf"(?P<when>{when[language]})"
    # German puts the time before the place, the other languages after it.
    time = rf"(?:{time} )?" if language == "de" else rf"(?: {time})?"
    pattern = (
        entry["pattern"]
        .replace("{to}", rf"(?P<value>{_NAME})")
        .replace("{from}", rf"(?P<old>{_NAME})")
        .replace("{when}", time)
    )
    return StatementForm(language, entry["subject"], entry["state"], re.compile(pattern))


def _attribute_form(entry: dict[str, Any], table: dict[str, Any]) -> AttributeForm:
    kinds = {**table["kinds"], "color": _color(table["colors"].split())}
    verb = rf"(?:{_IS}|{_CHANGED})"
    pattern = (
        rf"(?P<name>{entry['names']}) {verb} (?:de |di )?(?P<value>{kinds[entry['kind']]}){_SINCE}"
    )
    return AttributeForm(entry["kind"], entry["single"], re.compile(pattern))


def _color(names: list[str]) -> str:
    """German writes the color's name with a capital, the Romance languages with an article."""
    return "(?:el |le |il )?(?:" + "|".join(f"{name}|{name.capitalize()}" for name in names) + ")"


def _shift(pattern: str) -> re.Pattern[str]:
    return re.compile(
        pattern.replace("{subject}", "(?P<subject>.+?)")
        .replace("{old}", rf"(?P<old>{_VALUE})")
        .replace("{value}", rf"(?P<value>{_VALUE})")
    )
