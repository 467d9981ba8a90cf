"""Stored text as JSON that a model reads as data."""

from __future__ import annotations

import json
import re
from typing import Final

# Characters that open or close something in a prompt (a tag, a special token, a fence), and
# invisible characters with an effect: controls, text direction, line separators.
_ACTS: Final = re.compile(
    r"<(?=[/|!?A-Za-z])|(?<=[|])>|`{3,}|~{3,}"
    "|[\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    "|[\U000e0000-\U000e007f]"
)


def quoted(value: object) -> str:
    """JSON on one line with unsafe characters escaped; it parses back to the same value."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return _ACTS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    # Surrogate pairs, as JSON requires beyond 16 bits.
    units = match.group().encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
