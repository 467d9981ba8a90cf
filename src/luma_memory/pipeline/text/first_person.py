"""Replace "I" by the name of the speaker in the text that is embedded.

A model of sentences relates "Caroline: Caroline went to Caroline's group" to the question "When did
Caroline go to her group?" better than "Caroline: I went to my group" (docs/recall.md). Only the
embedded text changes, never what is stored, indexed or returned. The rules are for English alone.
Wherever "I" may be something else (a numeral, a label, another person's words, code), or the text
may be in another language, it stays as it is.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from luma_memory.pipeline.text.stop_words import ENGLISH

# Speakers that are roles: who "I" is remains unknown.
_ROLES: Final = frozenset(
    """
    user human assistant agent bot ai system tool function model me i you narrator unknown speaker
    customer client caller host guest interviewer interviewee moderator operator support anonymous
    everyone team admin
    """.split()  # noqa: SIM905 (a list of words)
)
_NAME_WORDS_MAX: Final = 3
_NAME: Final = re.compile(r"[^\W\d_]+(?:[-'’.][^\W\d_]+)*\.?")

# Frequent words that other languages in Latin script do not have.
_ENGLISH_WORDS: Final = frozenset(
    """
    the and of with this that was were have you your they them their what when where which would
    could should been being from about it's that's don't didn't can't isn't wasn't you're we're
    i'm i've i'll i'd it is are but there because really just some our his her she to thanks for
    having let love any
    """.split()  # noqa: SIM905 (a list of words)
)
# What follows "I" in English, and what may follow a lowercase "i" that is no variable.
_VERBS: Final = frozenset(
    """
    am was have had will would can could should do did don't didn't can't couldn't wasn't haven't
    hadn't won't wouldn't shouldn't might must may love loved like liked think thought know knew go
    went got get made make need needed want wanted feel felt hope hoped bought took take started saw
    see found met read ran work worked live lived just also really never always still even agree
    guess wish used tried try remember remembered believe enjoy enjoyed plan planned joined moved
    said heard came left spent learned decided finished wrote signed appreciate understand visited
    """.split()  # noqa: SIM905 (a list of words)
)
# Nouns that a Roman numeral follows: alone, or unless a verb follows the "I".
_NUMBERED: Final = frozenset("type phase stage chapter act volume vol appendix tier war".split())  # noqa: SIM905
_ALSO_NUMBERED: Final = frozenset(
    "part class book section level step option item table grade category case unit".split()  # noqa: SIM905
)
# Words that begin a sentence in capitals before "I", besides stop words and adverbs in -ly.
_OPENERS: Final = frozenset(
    """
    yesterday today tomorrow tonight yes no yeah yep nope sorry thanks wow hey hi oh ok okay well
    lately recently sometimes maybe anyway plus please sure guess glad monday tuesday wednesday
    thursday friday saturday sunday january february march april may june july august september
    october november december
    """.split()  # noqa: SIM905 (a list of words)
)

# Text that is not the speaker's own: code, quotations, captions, addresses, quoted lines.
_NOT_OWN: Final = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\"[^\"]*(?:\"|\Z)|“[^”]*(?:”|\Z)|«[^»]*(?:»|\Z)"
    r"|„[^“”]*(?:[“”]|\Z)|(?<!\w)['‘][^'’\n]*['’](?!\w)|\[image:[^\]]*(?:\]|\Z)|https?://\S+"
    r"|^[ \t]*>[^\n]*",
    re.DOTALL | re.MULTILINE,
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# Nothing that joins it to a code, a path or an abbreviation may surround it: "I/O", "my-account".
_FIRST_PERSON: Final = re.compile(
    r"(?<![\w/.'’&+#@-])"
    r"(?:(?P<i>[Ii])(?:['’](?P<short>m|ve|ll|d))?|(?P<my>[Mm]y))"
    r"(?![\w/'’&+#@-])"
)
_WORD_BEFORE: Final = re.compile(
    r"(?P<start>(?:^|[.!?…:;]\s+|\n)\s*)?(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*) $"
)
_BEFORE_CHARACTERS: Final = 40
_WORD_AFTER: Final = re.compile(r" ([a-z]+(?:['’][a-z]+)?)")
_SHORT_FORMS: Final = {"m": "is", "ve": "has", "ll": "will", "d": "would"}
_THIRD_PERSON: Final = {"am": "is", "have": "has", "do": "does", "don't": "doesn't"}


def is_name(speaker: str | None) -> bool:
    """Whether a speaker is a person's name: one to three words of letters, and no role."""
    if not speaker:
        return False
    words = speaker.split()
    return (
        1 <= len(words) <= _NAME_WORDS_MAX
        and all(_NAME.fullmatch(word) for word in words)
        and not _ROLES.intersection(word.lower() for word in words)
    )


def with_name(text: str, speaker: str | None) -> str:
    """The text with "I" and "my" replaced by the speaker's name.

    Unchanged if the speaker is no name or the text is not clearly English. "Me" stays: replacing
    it as well measured slightly worse. Linear in the length.
    """
    if not speaker or not _FIRST_PERSON.search(text):
        return text
    if not (is_name(speaker) and _is_english(text)):
        return text
    parts: list[str] = []
    start = 0
    for quoted in _NOT_OWN.finditer(text):
        parts += [_named(text[start : quoted.start()], speaker), quoted[0]]
        start = quoted.end()
    return "".join([*parts, _named(text[start:], speaker)])


def _is_english(text: str) -> bool:
    """Whether a tenth of the words, or "I" with its verb, are found in no other language."""
    words = _WORD.findall(text.lower().replace("’", "'"))
    known = sum(map(_ENGLISH_WORDS.__contains__, words))
    if 10 * known < len(words) or not known:
        known += any(first == "i" and second in _VERBS for first, second in pairwise(words))
    return 10 * known >= len(words) > 0 and known > 0


def _named(text: str, name: str) -> str:
    parts: list[str] = []
    start = 0
    for match in _FIRST_PERSON.finditer(text):
        found = _replacement(match, text, name)
        if found is not None:
            replacement, stop = found
            parts += [text[start : match.start()], replacement]
            start = stop
    return "".join([*parts, text[start:]])


def _replacement(match: re.Match[str], text: str, name: str) -> tuple[str, int] | None:
    """What replaces a pronoun, and up to where; None if it may be something else."""
    stop = match.end()
    following = _WORD_AFTER.match(text, stop)
    after = following[1].replace("’", "'") if following else ""
    if match["my"]:
        return (f"{name}'s", stop) if after or match["my"] == "my" else None
    if match["short"]:
        return f"{name} {_SHORT_FORMS[match['short']]}", stop
    if not _is_pronoun(match, text, after):
        return None
    if following and after in _THIRD_PERSON:
        return f"{name} {_THIRD_PERSON[after]}", following.end()
    return name, stop


def _is_pronoun(match: re.Match[str], text: str, after: str) -> bool:
    """Whether an "I" is one: judged by the words beside it."""
    if match["i"] == "i" and after not in _VERBS:
        return False
    before = _WORD_BEFORE.search(text, max(0, match.start() - _BEFORE_CHARACTERS), match.start())
    if not after:  # "so do I!"
        ends = text[match.end() : match.end() + 1] in {",", "?", "!"}
        return ends and before is not None and before["word"].islower()
    if before is None:
        return True
    word = before["word"].lower()
    if word in _NUMBERED or (word in _ALSO_NUMBERED and after not in _VERBS):
        return False
    return before["word"].islower() or word in ENGLISH or word in _OPENERS or word.endswith("ly")
