"""Days whose sentence takes back what they seem to state: replaced, quoted, or named twice.

"Moved from Friday to Saturday" names a day that is no longer the one, and "see you tomorrow",
quoted in a report of last week, was not written today.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from luma_memory.providers.completion.extract.date_mention import Mention
from luma_memory.providers.completion.extract.date_phrases import date_words, weekdays
from luma_memory.providers.completion.extract.document import Document

_BETWEEN_CHARS: Final = 24  # at most, between the day that is left and the new one
_QUOTED: Final = re.compile(r"[\"“„«][^\"“”„«»\n]{1,200}[\"”“»]")
_VERB_CHARS: Final = 160  # between a day and the verb of its sentence
# "Today is Monday": the weekday is today's, whatever the time of writing.
_IS: Final = re.compile(
    r",? (?:is|was|ist|war|es|era|est|était|è|é|foi|will be|wird|wordt)"
    r"(?: (?:an?|ein|un|um|een))? ",
    re.IGNORECASE,
)
_YEAR: Final = re.compile(r"\d{4}")


def in_context(document: Document, mentions: Sequence[Mention]) -> list[Mention]:
    """The mentions, in order, without those that mean another time; a replaced day has no value.

    The document's language has a vocabulary.
    """
    if not mentions:
        return []
    language = document.language
    found = _without_repeated(document.text, mentions, language)
    found = _without_quoted(document, found)
    return _without_replaced(document, found, language)


def _without_repeated(text: str, mentions: Sequence[Mention], language: str) -> list[Mention]:
    names = weekdays(language)
    found: list[Mention] = []
    for mention in mentions:
        day = found[-1] if found else None
        if (
            day is not None
            and _is_one_day(day)
            and names.fullmatch(mention.name)
            and not names.fullmatch(day.name)
            and _IS.fullmatch(text, day.end, mention.start)
        ):
            continue
        found.append(mention)
    return found


def _without_quoted(document: Document, mentions: Sequence[Mention]) -> list[Mention]:
    """A relative day in a quotation is counted from when it was said; another time in its
    sentence shows that this was not now."""
    text = document.text
    quotations = [(match.start(), match.end()) for match in _QUOTED.finditer(text)]
    if not quotations or len(mentions) == 1:
        return list(mentions)

    def is_quoted(mention: Mention) -> bool:
        return any(start < mention.start and mention.end < end for start, end in quotations)

    elsewhere = {document.sentence_at(m.start).start for m in mentions if not is_quoted(m)}
    return [
        mention
        for mention in mentions
        if not is_quoted(mention)
        or _YEAR.search(mention.name) is not None
        or document.sentence_at(mention.start).start not in elsewhere
    ]


def _without_replaced(
    document: Document, mentions: Sequence[Mention], language: str
) -> list[Mention]:
    changed, origin = _changed(language)
    found = list(mentions)
    for index, mention in enumerate(mentions):
        sentence = document.sentence_at(mention.start)
        start = max(sentence.start, mention.start - _VERB_CHARS)
        end = max(mention.end, min(sentence.end, mention.end + _VERB_CHARS))
        if not changed.search(document.text, start, end):
            continue
        before = document.text[max(0, mention.start - _BETWEEN_CHARS) : mention.start]
        if origin.match(mention.name) is None and origin.search(before.lstrip()) is None:
            continue
        found[index] = replace(mention, value=None)
        following = mentions[index + 1] if index + 1 < len(mentions) else None
        if following is not None and following.start - mention.end <= _BETWEEN_CHARS:
            found[index + 1] = replace(following, value=None)
    return found


def _is_one_day(mention: Mention) -> bool:
    return mention.value is not None and len(mention.value) == len("2026-03-11")


@cache
def _changed(language: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Verbs of moving an appointment, and the word before the day it had."""
    words = date_words(language)
    origin = rf"(?<!\w)(?:{words.changed_from or '(?!)'})\s"
    return (
        re.compile(rf"(?<!\w)(?:{words.changed or '(?!)'})(?!\w)", re.IGNORECASE),
        re.compile(rf"{origin}(?:(?:the|den|dem|de|el|le|il)\s)?\Z|\A{origin}", re.IGNORECASE),
    )
