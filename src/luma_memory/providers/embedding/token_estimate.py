"""How many tokens a text has, near enough to cut and to batch by.

An exact count would need the model's own vocabulary. For OpenAI's models that is a download at run
time (`tiktoken` carries none), which an installation behind a firewall cannot make, and for
another vendor's model behind the same protocol it would be the wrong one. So this estimates, and
errs on the high side.
"""

from __future__ import annotations

import re
from typing import Final

# What byte-pair vocabularies split before merging: words, short digit groups, space, single signs.
_PIECE: Final = re.compile(r"[A-Za-z]+|[0-9]{1,3}|\s+|[^\sA-Za-z0-9]")
_LETTERS_PER_TOKEN: Final = 4
_BYTES_PER_TOKEN: Final = 2


def cut_to_tokens(text: str, tokens_max: int) -> tuple[str, int]:
    """The longest start within `tokens_max` estimated tokens, and its estimate (at least 1)."""
    total = 0
    for match in _PIECE.finditer(text):
        tokens = _tokens_of(match.group())
        if total + tokens > tokens_max:
            return text[: match.start() + _fitting(match.group(), tokens_max - total)], tokens_max
        total += tokens
    return text, max(1, total)


def _fitting(piece: str, tokens: int) -> int:
    """Characters of a piece that fit; only words are worth cutting inside."""
    return tokens * _LETTERS_PER_TOKEN if piece[0].isascii() and piece[0].isalpha() else 0


def _tokens_of(piece: str) -> int:
    first = piece[0]
    if first.isspace():
        # One space belongs to the word behind it.
        return 0 if piece == " " else 1
    if first.isascii():
        return -(-len(piece) // _LETTERS_PER_TOKEN) if first.isalpha() else 1
    return -(-len(piece.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
