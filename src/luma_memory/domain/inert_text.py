"""Characters without an effect other than being displayed.

Control, surrogate, private, unassigned and format characters are not: direction overrides make a
text read differently than it is. Of the format characters the joiners stay: emoji and several
scripts (Persian, Hindi, Malayalam) spell with them.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_ACTING: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Cf"})
_JOINERS: Final = frozenset("\u200c\u200d")


def is_inert(sign: str) -> bool:
    """Whether the character may be stored and shown as it is; white space is checked elsewhere."""
    return sign in _JOINERS or unicodedata.category(sign) not in _ACTING
