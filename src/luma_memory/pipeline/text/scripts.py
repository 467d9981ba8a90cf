"""The script of a text, as far as it matters for an embedding model's vocabulary."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Final

from luma_memory.pipeline.text.words import IS_UNSPACED

LATIN: Final = "LATIN"
# The share of letters in scripts unknown to the model from which a vector is meaningless.
_FOREIGN_SHARE_MAX: Final = 1 / 3


def is_legible(text: str, scripts: frozenset[str] | None) -> bool:
    """Whether a model that knows these scripts can read the text; None knows all of them.

    scripts: first words of Unicode character names, such as LATIN. A text without a letter or a
    digit (emoji only) is not legible for a model with limited scripts.
    """
    if scripts is None or (text.isascii() and LATIN in scripts and _has_sign(text)):
        return True
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return _has_sign(text)
    foreign = sum(_script(letter) not in scripts for letter in letters)
    return foreign <= _FOREIGN_SHARE_MAX * len(letters)


def is_unspaced(text: str) -> bool:
    """Whether most letters are of scripts that are indexed by pairs of characters."""
    letters = sum(character.isalpha() for character in text)
    return letters > 0 and 2 * len(IS_UNSPACED.findall(text)) > letters


def is_mostly_latin(text: str) -> bool:
    """Whether at least half of the letters are Latin; a text without letters is."""
    latin = [_script(letter) == LATIN for letter in text if letter.isalpha()]
    return 2 * sum(latin) >= len(latin)


def main_script(text: str) -> str:
    """The script of most letters; any kana make it Japanese, HIRAGANA. Empty without letters."""
    counts = Counter(_script(letter) for letter in text if letter.isalpha())
    if counts["HIRAGANA"] + counts["KATAKANA"]:
        return "HIRAGANA"
    return max(counts, key=lambda script: counts[script], default="")


def _has_sign(text: str) -> bool:
    return any(character.isalnum() for character in text)


@lru_cache(maxsize=8_192)
def _script(letter: str) -> str:
    """LATIN, CYRILLIC, CJK, HANGUL …; full-width forms count as their base characters."""
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "")
    return name.split(" ", 1)[0]
