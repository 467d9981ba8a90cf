"""Split a block's text into passages, the units of search.

A block may have 100,000 characters; an embedding model reads a few hundred tokens. Text is split
between paragraphs, else sentences, else words, else anywhere.

Tokens are estimated, not counted: ingest creates the terms of each passage without a tokenizer, and
the embedding model can change while the passages stay the same.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# The local model reads 256 tokens. In long technical chats 0.2 percent of the passages estimated at
# 220 have more, and none more than 272.
MAX_TOKENS: Final = 220

# One match is about one token of a WordPiece vocabulary: part of a Latin word (short words are one
# token, long ones often two), two digits, or any other character, including CJK and symbols.
_PIECE: Final = re.compile(r"[A-Za-z]{1,6}|\d{1,2}|\S")
# Best first; the text is split after the match.
_PAUSES: Final = (
    re.compile(r"\n[^\S\n]*\n\s*"),
    re.compile(r"[.!?…]+[\"'”’)\]*_]*\s+|[。！？｡]+[」』）]*\s*|\n\s*"),
    re.compile(r"\s+"),
)
_EXTENDERS: Final = frozenset("\u200c\u200d\ufe0e\ufe0f")
_GRAPHEME_LENGTH_MAX: Final = (
    16  # limit of the search backwards; longer sequences are split anywhere
)


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters start..stop of a block's content, stop excluded."""

    start: int
    stop: int


def split_passages(content: str, *, max_tokens: int = MAX_TOKENS) -> Sequence[Passage]:
    """The passages of a text: in order, adjacent, together the whole text.

    Each is estimated at no more than `max_tokens` tokens; a character is at most one token, so a
    short text is one passage. Empty text is one empty passage. Linear in the length.
    Raises ValueError if max_tokens < 2.
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
    """The end of the passage that starts at piece `first`.

    It is in the second half of the possible range, so that no passage is too short; when two
    passages remain, it is in the middle half of the rest, so that the last is not too short either.
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
    """The cut moved back so that it does not split a grapheme cluster."""
    for candidate in range(cut, max(earliest, cut - _GRAPHEME_LENGTH_MAX), -1):
        before, after = content[candidate - 1], content[candidate]
        if not (_extends_previous(after) or before == "\u200d"):
            return candidate
    return cut


def _extends_previous(character: str) -> bool:
    return character in _EXTENDERS or unicodedata.combining(character) != 0
