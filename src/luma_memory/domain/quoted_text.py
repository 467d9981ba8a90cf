"""Stored text as JSON that a model reads as data."""

from __future__ import annotations

import json
import re
from typing import Final

# Invisible characters with an effect (controls, text direction, line separators), characters that
# are shown as nothing and can carry a hidden text, and signs that the normalization of some
# tokenizers turns into the quotation mark or backslash of this JSON.
_ALWAYS: Final = (
    "\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\ufe68\uff02\uff3c\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
# Emoji and several scripts spell with one of these between or behind visible characters; a run of
# them is a hidden text.
_IDEOGRAPHIC_VARIANTS: Final = "\U000e0100-\U000e01ef"
_JOINING: Final = f"\u200c\u200d\ufe00-\ufe0f{_IDEOGRAPHIC_VARIANTS}"
_IDEOGRAPHS: Final = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Each sign with those that normalization turns into it.
_LESS, _MORE, _BAR = "<\ufe64\uff1c", ">\ufe65\uff1e", "|\uff5c"
_TICK, _TILDE, _OPEN, _CLOSE = "`\uff40", "~\uff5e", r"\[\uff3b", r"\]\uff3d"
# One sign, and the reason: what it would open or close in a prompt. A tag may have anything as its
# first character, so `<` stays only where a number, a space or another sign of ordinary text
# follows.
_ACTS: Final = re.compile(
    rf"[{_LESS}{_MORE}{_TICK}{_TILDE}{_OPEN}{_ALWAYS}{_JOINING}]"
    rf"(?:(?<=[{_ALWAYS}])"
    rf"|(?<=[{_LESS}])(?![\s\d=<\"-])"
    rf"|(?<=[{_LESS}])(?=[\s{_JOINING}]+[/\uff0f{_BAR}!\uff01?\uff1f])"
    rf"|(?<=[{_BAR}][{_MORE}])"
    rf"|(?<=[{_TICK}])(?:[{_JOINING}]*[{_TICK}]){{2,}}"
    rf"|(?<=[{_TILDE}])(?:[{_JOINING}]*[{_TILDE}]){{2,}}"
    rf"|(?<=[{_OPEN}])(?=[/\uff0f]?(?:INST|[A-Z]+_[A-Z_]+)[{_CLOSE}])"
    rf"|(?<=[{_JOINING}][{_JOINING}])"
    rf"|(?<=[{_IDEOGRAPHIC_VARIANTS}])(?<![{_IDEOGRAPHS}].)"
    r")"
)


def quoted(value: object) -> str:
    """JSON on one line with unsafe characters escaped; it parses back to the same value."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return _ACTS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    # Surrogate pairs, as JSON requires beyond 16 bits.
    units = match.group().encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
