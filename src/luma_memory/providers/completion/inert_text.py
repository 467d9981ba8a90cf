"""Text written by a model, made safe to store: bounded, one line, without control characters.

Markup is kept as plain characters: the program that displays it has to escape it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from luma_memory.domain.inert_text import is_inert

_SPACE: Final = re.compile(r"\s+")
_ELLIPSIS: Final = "…"


def inert_line(text: str, *, characters_max: int) -> str:
    """One line of at most `characters_max` characters, maybe empty; cut at a word if one ends
    near.
    """
    # Longer input cannot matter, and cleaning should not take time in proportion to it.
    clean = "".join(_kept(sign) for sign in text[: characters_max * 16])
    line = _SPACE.sub(" ", unicodedata.normalize("NFC", clean)).strip()
    return line if len(line) <= characters_max else _cut(line, characters_max)


def _kept(sign: str) -> str:
    if sign.isspace():
        return " "
    return sign if is_inert(sign) else ""


def _cut(line: str, characters_max: int) -> str:
    head = line[: characters_max - 1]
    space = head.rfind(" ")
    return (head[:space] if space > characters_max // 2 else head).rstrip() + _ELLIPSIS
