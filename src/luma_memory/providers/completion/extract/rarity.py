"""Information content of words: rare words name the subject of a text, common ones do not.

Weights come from the word frequencies of about 40 languages that `wordfreq` carries (Speer, 2022),
on the Zipf scale (van Heuven et al., 2014): the base-10 logarithm of occurrences in 10^9 words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

from luma_memory.domain.languages import word_list_code
from luma_memory.providers.completion.extract.vocabulary import vocabulary

# Zipf 6 is one word in a thousand: "would", "also", "time"; function words in any language.
STOP_ZIPF = 6.0
# Weight 0 is reached at one word in a hundred; words missing in the list are rarer than Zipf 3.
ZERO_ZIPF = 7.0
UNKNOWN_WEIGHT = 4.2
# Evaluations, everyday verbs and greetings.
LIGHT_WEIGHT = 0.0
# Without known frequencies, a word counts by its length.
_NEUTRAL_WEIGHT = 2.5


@cache
def weights(language: str) -> Mapping[str, float]:
    """Weight 0..4 of every known word in lower case; look others up as `unknown_weight`."""
    words = vocabulary(language)
    known = {word: _weight(frequency) for word, frequency in _frequencies(language).items()}
    for word in words.stop | words.light | words.discourse:
        known[word] = LIGHT_WEIGHT
    return known


def unknown_weight(language: str) -> float:
    """Weight of a word that is not in `weights`."""
    return UNKNOWN_WEIGHT if _wordfreq_code(language) else _NEUTRAL_WEIGHT


def _weight(frequency: float) -> float:
    zipf = math.log10(frequency) + 9
    return 0.0 if zipf >= STOP_ZIPF else ZERO_ZIPF - zipf


# wordfreq is imported by the functions below: its import reads the stack of callers with their
# sources, which takes a third of a process's start when modules import each other down to here.
def _frequencies(language: str) -> Mapping[str, float]:
    from wordfreq import get_frequency_dict

    code = _wordfreq_code(language)
    return get_frequency_dict(code, wordlist="small") if code else {}


def _wordfreq_code(language: str) -> str | None:
    code = word_list_code(language)
    return code if code in _available() else None


@cache
def _available() -> frozenset[str]:
    from wordfreq import available_languages

    return frozenset(available_languages("small"))
