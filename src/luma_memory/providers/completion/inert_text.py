"""Text a model wrote, made safe to store: bounded, one line, nothing that acts on its reader.

Markup stays as it is, as characters: whoever shows it escapes it for where it is shown.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Control, surrogate, private and unassigned characters, and of the format characters all but the
# joiners
# that scripts and emoji need: direction overrides make text read as what it is not.
_DROPPED: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Cf"})
_JOINERS: Final = frozenset("\u200c\u200d")
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
    return "" if unicodedata.category(sign) in _DROPPED and sign not in _JOINERS else sign


def _cut(line: str, characters_max: int) -> str:
    head = line[: characters_max - 1]
    space = head.rfind(" ")
    return (head[:space] if space > characters_max // 2 else head).rstrip() + _ELLIPSIS
