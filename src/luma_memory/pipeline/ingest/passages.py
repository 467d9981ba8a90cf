"""A block's text cut into the passages that search scans.

A block may have 100,000 characters, an embedding model reads a few hundred tokens. Cuts are made
where the text itself pauses: between paragraphs, else sentences, else words, else anywhere.

Tokens are estimated, not counted: the door, which makes the lexical terms of each passage, carries
no tokenizer, and the embedding model can change while the passages stay.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# The local model reads 256. On long technical chats 0.2 percent of the passages estimated at 220
# have more, none more than 272.
MAX_TOKENS: Final = 220

# One match is about one token of a wordpiece vocabulary: a stretch of a Latin word (short words are
# one token, long ones often two), two digits, or any other single sign, CJK and symbols included.
_PIECE: Final = re.compile(r"[A-Za-z]{1,6}|\d{1,2}|\S")
# Strongest first; a cut is made behind the match.
_PAUSES: Final = (
    re.compile(r"\n[^\S\n]*\n\s*"),
    re.compile(r"[.!?…]+[\"'”’)\]*_]*\s+|[。！？｡]+[」』）]*\s*|\n\s*"),
    re.compile(r"\s+"),
)
_JOINED_SIGNS: Final = frozenset("\u200c\u200d\ufe0e\ufe0f")
_GRAPHEME_LENGTH_MAX: Final = 16  # further back nothing is looked for: Zalgo text is cut anywhere


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters start..stop of a block's content, stop excluded."""

    start: int
    stop: int


def split_passages(content: str, *, max_tokens: int = MAX_TOKENS) -> Sequence[Passage]:
    """The passages of a text: in order, adjacent, together the whole of it.

    Each is estimated at no more than `max_tokens` tokens, of which a character is at most one; so
    a short text is one passage without a further look. Empty text is one empty passage.
    Linear in the length. Raises ValueError if max_tokens < 2.
    """
    if max_tokens < 2:
        raise ValueError(f"max_tokens must be at least 2, not {max_tokens}")
    if len(content) <= max_tokens:
        return (Passage(0, len(content)),)
    pieces = [match.start() for match in _PIECE.finditer(content)]
    passages: list[Passage] = []
    start, first = 0, 0
    while len(pieces) - first > max_tokens:
        stop = _cut(content, pieces, first, max_tokens)
        passages.append(Passage(start, stop))
        start, first = stop, bisect_left(pieces, stop, first)
    passages.append(Passage(start, len(content)))
    return passages


def _cut(content: str, pieces: Sequence[int], first: int, max_tokens: int) -> int:
    """Where the passage that begins at piece `first` ends.

    Looked for in the second half only, so that a passage is never a stub; when two passages will
    hold all that is left, in its middle half, so that the last is none either.
    """
    left = len(pieces) - first
    lower, upper = max_tokens // 2, max_tokens
    if left < 2 * max_tokens:
        lower, upper = max(left - max_tokens, left // 4), min(max_tokens, left - left // 4)
    earliest, latest = pieces[first + max(lower, 1)], pieces[first + upper]
    for pause in _PAUSES:
        cuts = [match.end() for match in pause.finditer(content, earliest - 1, latest)]
        if cuts and cuts[-1] >= earliest:
            return cuts[-1]
    return _before_grapheme(content, latest, earliest)


def _before_grapheme(content: str, cut: int, earliest: int) -> int:
    """The cut moved back so that it does not part a sign from its accents, joiners or selectors."""
    for candidate in range(cut, max(earliest, cut - _GRAPHEME_LENGTH_MAX), -1):
        before, after = content[candidate - 1], content[candidate]
        if not (_leans_back(after) or before == "\u200d"):
            return candidate
    return cut


def _leans_back(character: str) -> bool:
    return character in _JOINED_SIGNS or unicodedata.combining(character) != 0
