"""Prepare arbitrary text for analysis: clean, bound, remove markup, cut."""

from __future__ import annotations

import re
import unicodedata

# Of a block of 100,000 characters only the head and the tail are analyzed, so that the time per
# block is bounded; the important parts of a long text are usually at either end.
RAW_HEAD_CHARS = 16_000
RAW_TAIL_CHARS = 4_000
READ_HEAD_CHARS = 4_500
READ_TAIL_CHARS = 1_500

# Control characters, bidirectional overrides and lone surrogates: none can be shown or stored.
# The joiners U+200C/D stay, emoji and several scripts need them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
# Data in text form (base64, hexadecimal, tokens): an image, a key, a digest. It has no content.
_DATA_URI = re.compile(r"data:[\w.+/-]{1,100}(?:;[\w=.-]{1,60}){0,4};base64,[A-Za-z0-9+/=_\n-]*")
_RUN = re.compile(
    r"(?<![A-Za-z0-9+/=_.-])[A-Za-z0-9+/_.-]{20,}={0,2}(?:\n[A-Za-z0-9+/]{1,19}={1,2}(?!\S))?"
)
_CLASSES = re.compile(r"[a-z]+|[A-Z]+|[0-9]+")
# Letters and digits of words and paths stay of one class for several characters; those of data
# change at every other character. "NSURLSessionConfiguration" has runs of five on average, base64
# of 1.6.
_DATA_RUN_LENGTH_MAX = 3.0
_SHORT_DATA_RUN_LENGTH_MAX = 2.0
_SHORT_DATA_CHARS_MAX = 31
_MARKUP = re.compile(r"[`#*_<|>\[~]|^[ \t]*(?:[-+•]|\d{1,3}[.)])[ \t]", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[^\n]*$|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"#{1,3}[ \t]+([^\n]{1,200})(?:\n|\Z)")
_TAG = re.compile(r"</?[A-Za-z!][^<>\n]{0,300}>")
_LINK = re.compile(r"!?\[([^\[\]\n]{1,300})\]\([^()\s]{1,1000}\)")
# "[image: a red bicycle]": the caption is ordinary text.
_LABELED = re.compile(r"\[\w{2,12}:[ \t]*([^\[\]\n]{1,1000})\]")
_LINE_MARK = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-+*•][ \t]+|\d{1,3}[.)][ \t]+)", re.MULTILINE
)
_RULE = re.compile(r"^[ \t]*[-=_*|: ]{3,}$", re.MULTILINE)
_EMPHASIS = re.compile(r"\*{1,3}|_{2,3}|~~|`|\|")
_FORMULA_COMMAND = re.compile(r"\\(?:[A-Za-z]{2,20}|[\[\]()])")
_CUT_BEFORE = re.compile(r"[\s、。，．！？；：,;]")


def clean(text: str) -> str:
    """The same text with line feeds only and every character printable; may be empty."""
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))


def without_data(text: str) -> str:
    """The text without machine data; empty if there is only data."""
    return _RUN.sub(_space_for_data, _DATA_URI.sub(" ", text) if "base64," in text else text)


def _space_for_data(match: re.Match[str]) -> str:
    run = match[0]
    is_short = len(run) <= _SHORT_DATA_CHARS_MAX
    longest = _SHORT_DATA_RUN_LENGTH_MAX if is_short else _DATA_RUN_LENGTH_MAX
    return " " if len(run) <= longest * len(_CLASSES.findall(run)) else run


def window(text: str, head_chars: int, tail_chars: int) -> str:
    """Head and tail of a long text, cut at white space if some is near."""
    if len(text) <= head_chars + tail_chars:
        return text
    head = text[:head_chars]
    tail = text[-tail_chars:]
    head = head[: max(head.rfind(" ", head_chars - 100), 0) or head_chars]
    tail = tail[max(tail.find(" ", 0, 100), 0) :]
    return f"{head}\n{tail}"


def plain(text: str) -> str:
    """Prose without code blocks, tags and markdown signs; empty if there is nothing else."""
    if not _MARKUP.search(text):
        return text
    text = _FENCE.sub("\n", text) if "```" in text or "~~~" in text else text
    text = _TAG.sub(" ", text) if "<" in text else text
    if "[" in text:
        text = _LABELED.sub(r"\n\1", _LINK.sub(r"\1", text))
    text = _LINE_MARK.sub("", _RULE.sub("", text))
    if "\\(" in text or "\\[" in text or "$$" in text:
        text = _FORMULA_COMMAND.sub(" ", text)
    return _EMPHASIS.sub("", text)


def readable(content: str) -> str:
    """What the extractors read of a block, bounded; the code itself if there is only code."""
    raw = without_data(clean(window(content, RAW_HEAD_CHARS, RAW_TAIL_CHARS)))
    prose = plain(raw)
    if not prose or prose.isspace():
        prose = raw
    return window(prose, READ_HEAD_CHARS, READ_TAIL_CHARS)


def heading(content: str) -> str | None:
    """The Markdown heading at the beginning of a text."""
    match = _HEADING.match(content[:RAW_TAIL_CHARS].lstrip())
    return one_line(plain(clean(match[1]))) or None if match else None


def one_line(text: str) -> str:
    """White space of every kind collapsed to single spaces, none at the ends."""
    return " ".join(text.split())


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, cut between words where one ends near, marked by an ellipsis."""
    if len(text) <= limit:
        return text
    start = limit // 2
    boundaries = [m.start() for m in _CUT_BEFORE.finditer(text, start, limit)]
    cut = boundaries[-1] if boundaries else _between_graphemes(text, limit - 1)
    return text[:cut].rstrip(" ,;:-–—、，；：") + "…"


def _between_graphemes(text: str, cut: int) -> int:
    """Step back from the middle of an emoji sequence or an accented letter, a few steps at most."""
    for candidate in range(cut, max(cut - 12, 1), -1):
        if not _joins(text[candidate]) and text[candidate - 1] != "\u200d":
            return candidate
    return cut


def _joins(char: str) -> bool:
    return (
        unicodedata.combining(char) != 0
        or char in "\u200d\ufe0e\ufe0f\u20e3"
        or "\U0001f3fb" <= char <= "\U0001f3ff"
    )
