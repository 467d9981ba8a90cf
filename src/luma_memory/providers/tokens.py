"""How long texts are, in tokens."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from typing import Final

# Half a millisecond; a thread costs a fifth of that.
INLINE_CHARACTERS_MAX: Final = 4_000
# Runs of letters and digits, line ends and blanks beyond the one that belongs to a word, any sign.
_PIECE: Final = re.compile(r"[A-Za-z0-9]+|\n+|[^\S\n]{2,}|\S")
_WORD: Final = re.compile(r"[A-Z]?[a-z]{0,12}|[A-Z]{2,6}")
_LETTERS_PER_TOKEN: Final = 4
_DIGITS_PER_TOKEN: Final = 3
# Identifiers, keys, hashes: hardly any piece of them stands in a vocabulary.
_SIGNS_OF_NOISE_PER_TOKEN: Final = 1.2


class CountedTokens:
    """`ports.models.TokenCounter` by a model's own tokenizer."""

    def __init__(self, name: str, count: Callable[[str], int]) -> None:
        """count: of one text; may be called from any thread."""
        self._name = name
        self._count = count

    @property
    def name(self) -> str:
        return self._name

    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        if sum(map(len, texts)) <= INLINE_CHARACTERS_MAX:
            return [self._count(text) for text in texts]
        return await asyncio.to_thread(lambda: [self._count(text) for text in texts])


class EstimatedTokens:
    """`ports.models.TokenCounter` for models whose vocabulary is not here: an upper estimate."""

    @property
    def name(self) -> str:
        return "estimate"

    async def count(self, texts: Sequence[str]) -> Sequence[int]:
        return [estimated_tokens(text) for text in texts]


def estimated_tokens(text: str) -> int:
    """Tokens of a text for a byte-pair vocabulary of today's models, erring on the high side.

    Compared with one (cl100k): English chats 1.3 times as many, Chinese, Hindi, Thai and Russian
    1.5 to 2 times, random identifiers 1.0 to 1.5 times. At least 1 for any text.
    """
    return max(1, sum(_tokens_of(match.group()) for match in _PIECE.finditer(text)))


def _tokens_of(piece: str) -> int:
    if not piece.isascii():
        # A sign has at most as many tokens as bytes; only those beyond 16 bits come near it.
        size_bytes = len(piece.encode("utf-8", "replace"))
        return 3 if size_bytes > 3 else -(-size_bytes // 2)
    if not piece[0].isalnum():
        return 1
    if piece.isdigit():
        return -(-len(piece) // _DIGITS_PER_TOKEN)
    if _WORD.fullmatch(piece):
        return -(-len(piece) // _LETTERS_PER_TOKEN)
    return math.ceil(len(piece) / _SIGNS_OF_NOISE_PER_TOKEN)
