"""Names of languages that lists of words have under another code."""

from __future__ import annotations

from typing import Final

# `wordfreq` has one list for Bosnian, Croatian and Serbian, and Norwegian under its written form.
_OTHER_CODES: Final = {"no": "nb", "hr": "sh", "sr": "sh", "bs": "sh"}


def word_list_code(language: str) -> str:
    """The code of `wordfreq` for an ISO 639-1 language, whether it has a list of it or not."""
    return _OTHER_CODES.get(language, language)
