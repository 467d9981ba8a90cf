"""Whether a later statement replaces an earlier one, by closed forms in five languages.

`supersedes` only if the later text itself proves it: it names what has ended ("no longer", "from
X to Y"), says that something changed ("moved to", "now"), or gives another value of the same kind
where a person has only one. Statements that exclude each other without such proof `contradict`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from luma_memory.providers.completion.extract import date_values
from luma_memory.providers.completion.extract.dates import dates
from luma_memory.providers.completion.extract.document import read
from luma_memory.providers.completion.extract.vocabulary import LANGUAGES, vocabulary
from luma_memory.providers.completion.local_statements import denied, was_before
from luma_memory.providers.completion.local_values import is_part, same_value
from luma_memory.providers.completion.relation_forms import StatementForm, relation_forms

Update = Literal["supersedes", "contradicts"]


_NEW: Final = re.compile(
    r"(?P<own>my|meine?|mon|ma|mi|il mio|la mia) (?:new|neuer?|nouveau|nouvelle|nuev[oa]|nuov[oa]) "
)


def update(newer: str, older: str, *, newer_day: date, older_day: date) -> Update | None:
    """The relation of the later of two statements of one speaker to the earlier one.

    newer, older: as `local_statements.statement` returns them. Days: when they were made.
    """
    if newer == older:
        return None
    if older in was_before(newer) or _is_shifted(newer, older, newer_day, older_day):
        return "supersedes"
    if older in denied(newer) or newer in denied(older) or newer in was_before(older):
        return "contradicts"
    return _about_home_or_work(newer, older, older_day, newer_day) or _about_attribute(newer, older)


def _is_shifted(newer: str, older: str, newer_day: date, older_day: date) -> bool:
    for form in relation_forms().shifts:
        match = form.fullmatch(newer)
        if match is None:
            continue
        subject, old = re.escape(match["subject"]), re.escape(match["old"])
        if re.fullmatch(rf"{subject} {relation_forms().link} {old}", older) is None:
            continue
        return _is_same_weekday(match["old"], newer_day, older_day)
    return False


def _is_same_weekday(name: str, newer_day: date, older_day: date) -> bool:
    """Whether a weekday is the same day for both; True without a weekday."""
    index = _weekday_index(name)
    if index is None:
        return True
    first = date_values.weekday_here(older_day, index)
    return first is not None and first == date_values.weekday_here(newer_day, index)


def _weekday_index(name: str) -> int | None:
    for language in LANGUAGES:
        words = vocabulary(language).dates
        for index, names in enumerate(words.weekdays if words else ()):
            if name.lower() in re.split(r"[ |]", names):
                return index
    return None


def _about_home_or_work(newer: str, older: str, older_day: date, newer_day: date) -> Update | None:
    for before in _matches(older):
        for after in _matches(newer):
            if before.form.subject != after.form.subject or before.form.state == "ended":
                continue
            if after.when and not _is_later(after.form.language, after.when, newer_day, older_day):
                continue
            if (found := _between(before, after)) is not None:
                return found
    return None


@dataclass(frozen=True, slots=True)
class _Match:
    form: StatementForm
    value: str
    old: str | None
    when: str | None


def _matches(sentence: str) -> Iterator[_Match]:
    for form in relation_forms().statements:
        match = form.pattern.fullmatch(sentence)
        if match is not None:
            groups = match.groupdict()
            yield _Match(form, match["value"], groups.get("old"), groups.get("when"))


def _between(before: _Match, after: _Match) -> Update | None:
    if after.form.state == "ended":
        return "supersedes" if after.value == before.value else None
    if after.value == before.value:
        return None
    if after.old is not None:
        return "supersedes" if after.old == before.value else None
    if not _is_comparable(before, after):
        return None
    return "supersedes" if after.form.state == "changed" else "contradicts"


def _is_comparable(before: _Match, after: _Match) -> bool:
    """Whether both values are of one kind: two towns, two countries, two employers."""
    forms = relation_forms()
    if before.form.subject == "home":
        return not _may_be_one_place(before.value, after.value) and any(
            before.value in names and after.value in names
            for names in (forms.towns, forms.countries)
        )
    # In German every noun has a capital: "ich arbeite bei Nacht" is not an employer.
    return (
        "de" not in (before.form.language, after.form.language)
        and not (is_part(before.value, after.value) or is_part(after.value, before.value))
        and not (_is_acronym(before.value, after.value) or _is_acronym(after.value, before.value))
        and all(_may_be_an_employer(match.value) for match in (before, after))
    )


def _may_be_one_place(one: str, other: str) -> bool:
    """Two names of one place ("Wien", "Vienna"), or a country and what may be a part of it."""
    forms = relation_forms()
    if forms.one_place.get(one, one) == forms.one_place.get(other, other):
        return True
    return not forms.regions.isdisjoint((one, other))


def _is_acronym(one: str, other: str) -> bool:
    """ "IBM" and "International Business Machines"; small words may be left out."""
    words = re.split(r"[\s-]+", other)
    every = "".join(word[:1] for word in words)
    capitals = "".join(word[:1] for word in words if word[:1].isupper())
    return len(words) > 1 and one.upper() in (every.upper(), capitals)


def _may_be_an_employer(name: str) -> bool:
    """No place, no time and no person: "I now work at Christmas", "for Karen", "at Building B"."""
    forms = relation_forms()
    words = name.split()
    return (
        name not in forms.towns
        and name not in forms.countries
        and words[0] not in forms.given_names
        and forms.not_employers.isdisjoint(words)
    )


def _is_later(language: str, when: str, newer_day: date, older_day: date) -> bool:
    """Whether something from "last month" can be later than the earlier statement."""
    document = read(when, language)
    for mention in dates(document, date_values.noon(newer_day)):
        if mention.value is not None:
            last = mention.value.rpartition("/")[2]
            return last >= older_day.isoformat()[: len(last)]
    return True


def _about_attribute(newer: str, older: str) -> Update | None:
    plain = _NEW.sub(r"\g<own> ", newer, count=1)
    for form in relation_forms().attributes:
        after, before = form.pattern.fullmatch(plain), form.pattern.fullmatch(older)
        if after is None or before is None or _attribute(after) != _attribute(before):
            continue
        if same_value(form.kind, after["value"], before["value"]):
            continue
        changed = plain != newer or any(after[group] for group in ("now", "since", "changed"))
        return "supersedes" if form.single or changed else "contradicts"
    return None


def _attribute(match: re.Match[str]) -> str:
    return match["name"].replace("favour", "favor").replace("colour", "color")
