"""Terms of a text other than plain words: digits of other scripts, numbers written in
groups, emoji, and stop words that are capitalized as names.

These terms begin with a character that no word begins with, or are plain digits.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Final

# Decimal digits of every script, and the signs that join words, at full width.
_AS_ASCII: Final = {
    code: str(unicodedata.digit(chr(code)))
    for code in range(128, 0x20000)  # there is none beyond
    if unicodedata.category(chr(code)) == "Nd"
} | {0xFF0B: "+", 0xFF0D: "-", 0xFF0E: ".", 0xFF0F: "/", 0xFF20: "@"}

# A number in groups: a telephone number, an account. One sign between two groups, or ") ".
_GROUPS: Final = re.compile(r"(?<![\w.,])\+?\(?\d{1,7}(?:(?:\) ?|[ \-./])\(?\d{1,7}){1,7}(?![\w])")
_DAY: Final = re.compile(r"\d{4}([-./ ])\d{1,2}\1\d{1,2}|\d{1,2}([-./ ])\d{1,2}\2(?:\d{2}|\d{4})")
_JOINED_DIGITS: Final = range(7, 20)

# Pictograms by code point, without flags and variation selectors.
_PICTURE: Final = (
    "\u203c\u2049\u2139\u2194-\u21aa\u231a-\u23ff\u25aa-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff"
)
_PRESENTATION: Final = "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]"
_PICTOGRAM: Final = re.compile(
    f"[\U0001f1e6-\U0001f1ff]{{2}}|[{_PICTURE}]{_PRESENTATION}*(?:\u200d[{_PICTURE}]{_PRESENTATION}*)*"
)
_PRESENTATION_MARK: Final = re.compile(_PRESENTATION)

# A capital inside a sentence, or a word in capitals anywhere.
_CAPITALIZED: Final = re.compile(r"\b[A-Z]{2,5}\b|(?<=[\w,] )[A-Z][a-z]{0,9}\b(?!['’])")
# Headings capitalize these too; and "I" always is a capital.
_NEVER_NAMES: Final = frozenset(
    {
        *(
            "i",
            "the",
            "an",
            "and",
            "or",
            "nor",
            "but",
            "if",
            "of",
            "in",
            "on",
            "at",
            "to",
            "for",
            "by",
        ),
        *("with", "from", "as", "into", "onto", "over", "under", "is", "are", "was", "be", "than"),
        *("so", "not", "no"),
    }
)
# Not a stop word but a country when capitalized.
_PRONOUNS: Final = frozenset({"us"})
_NAME_MARK: Final = "^"
_MIXED: Final = re.compile(r"[a-z\d][A-Z]")
_RUN: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
# A run of so many letters is a word ("getUser2").
_WORD_LETTERS_MIN: Final = 4


def unmarked(text: str) -> str:
    """The text with the digits of all scripts, and signs of full width, as ASCII has them."""
    return text if text.isascii() else text.translate(_AS_ASCII)


def joined_digits(text: str) -> Iterator[tuple[str, str]]:
    """Numbers written in groups: (as written, its digits without a sign). Dates are none."""
    for found in _GROUPS.finditer(text):
        written = found[0]
        digits = re.sub(r"\D", "", written)
        if len(digits) in _JOINED_DIGITS and not _DAY.fullmatch(written):
            yield written, digits


def is_opaque(word: str) -> bool:
    """Whether a word is a token of digits and letters in mixed case, without words: "aB3_xY-9"."""
    if _MIXED.search(word) is None or not any(map(str.isdigit, word)):
        return False
    lengths = [len(run) for run in _RUN.findall(word)]
    return 2 * sum(length for length in lengths if length >= _WORD_LETTERS_MIN) < sum(lengths)


def pictograms(text: str) -> Iterator[str]:
    """Emoji without skin tone and presentation; a joined one also by its single pictures."""
    if text.isascii():
        return
    for found in _PICTOGRAM.findall(text):
        plain = _PRESENTATION_MARK.sub("", found)
        yield plain
        if "\u200d" in plain:
            yield from plain.split("\u200d")


def stop_word_names(text: str, stops: Collection[str]) -> Iterator[str]:
    """Stop words that are names by their capitals: IT, US, the band Who, Section A.

    Capitals are ignored at the beginning of a sentence, and in a text of several words without a
    small letter.
    """
    found = _CAPITALIZED.findall(text)
    if not found or (text.upper() == text and len(text.split()) > 1):
        return
    for word in found:
        lower = word.lower()
        is_capitals = len(word) > 1 and word.isupper()
        if (lower in stops or lower in _PRONOUNS) and (is_capitals or lower not in _NEVER_NAMES):
            yield _NAME_MARK + lower
