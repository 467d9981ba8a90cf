"""Which characters of a text do nothing but show themselves.

Control, surrogate, private, unassigned and format characters do not: direction overrides make a
text read as what it is not. Of the format characters the joiners stay: emoji and several scripts
(Persian, Hindi, Malayalam) spell with them.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_ACTING: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Cf"})
_JOINERS: Final = frozenset("\u200c\u200d")


def is_inert(sign: str) -> bool:
    """Whether the character may be stored and shown as it is; white space is judged elsewhere."""
    return sign in _JOINERS or unicodedata.category(sign) not in _ACTING
