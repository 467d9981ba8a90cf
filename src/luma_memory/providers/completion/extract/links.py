"""Web and mail addresses in a text."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINKS = 20
MAX_LINK_CHARS = 500

# Every repetition is bounded: "a.a.a.…" and "@@@@…" stay linear.
_LINK = re.compile(
    r"\b(?:https?://|www\.)[^\s<>\"'`{}|\\^\[\]]{3,500}"
    r"|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}",
    re.IGNORECASE,
)
_TRAILING = ".,;:!?)*_~»”’"


@dataclass(frozen=True, slots=True)
class Link:
    """A web or mail address, at [start, end) of the text."""

    text: str
    start: int
    end: int


def links(text: str) -> list[Link]:
    """Addresses in order of appearance; anything longer than 500 characters counts as data."""
    if "://" not in text and "@" not in text and "www." not in text.lower():
        return []
    found = []
    for match in _LINK.finditer(text):
        link = _trimmed(match[0])
        if len(link) < MAX_LINK_CHARS:
            found.append(Link(link, match.start(), match.start() + len(link)))
        if len(found) == MAX_LINKS:
            break
    return found


def blanked(text: str, found: list[Link]) -> str:
    """The text with spaces in place of its links, all other places kept."""
    for link in found:
        text = text[: link.start] + " " * (link.end - link.start) + text[link.end :]
    return text


def _trimmed(link: str) -> str:
    """Without the punctuation of the sentence; a bracket that was opened inside stays."""
    while link and link[-1] in _TRAILING and not (link[-1] == ")" and "(" in link):
        link = link[:-1]
    return link
