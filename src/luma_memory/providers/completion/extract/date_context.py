"""Days whose sentence takes back what they seem to state: replaced, quoted, or named twice.

"Moved from Friday to Saturday" names a day that is no longer the one, and "see you tomorrow",
quoted in a report of last week, was not written today.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

from luma_memory.providers.completion.extract.document import Document
from luma_memory.providers.completion.extract.vocabulary import vocabulary

if TYPE_CHECKING:
    from luma_memory.providers.completion.extract.dates import Mention

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
    names = _weekday(language)
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

    elsewhere = {_sentence(document, m.start) for m in mentions if not is_quoted(m)}
    return [
        mention
        for mention in mentions
        if not is_quoted(mention)
        or _YEAR.search(mention.name) is not None
        or _sentence(document, mention.start) not in elsewhere
    ]


def _without_replaced(
    document: Document, mentions: Sequence[Mention], language: str
) -> list[Mention]:
    changed, origin = _changed(language)
    found = list(mentions)
    for index, mention in enumerate(mentions):
        sentence = document.sentences[_sentence(document, mention.start)]
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


def _sentence(document: Document, place: int) -> int:
    """The index of the sentence at a place."""
    index = bisect_right(document.sentences, place, key=lambda sentence: sentence.start) - 1
    return max(index, 0)


def _is_one_day(mention: Mention) -> bool:
    return mention.value is not None and len(mention.value) == len("2026-03-11")


@cache
def _weekday(language: str) -> re.Pattern[str]:
    words = vocabulary(language).dates
    assert words is not None
    return re.compile("|".join(words.weekdays), re.IGNORECASE)


@cache
def _changed(language: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Verbs of moving an appointment, and the word before the day it had."""
    words = vocabulary(language).dates
    assert words is not None
    origin = rf"(?<!\w)(?:{words.changed_from or '(?!)'})\s"
    return (
        re.compile(rf"(?<!\w)(?:{words.changed or '(?!)'})(?!\w)", re.IGNORECASE),
        re.compile(rf"{origin}(?:(?:the|den|dem|de|el|le|il)\s)?\Z|\A{origin}", re.IGNORECASE),
    )
