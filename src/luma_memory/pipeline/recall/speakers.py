"""The speaker a question asks about: the one it names, or else the user.

On two-person chats most questions name one of the two, and most answers are in that one's words.
On chats with an assistant nearly all evidence is what the user said, whatever was made of it.
Names are compared by key (`memory_speaker_key`), whole or by their first word, so a scan carries
one number a row and no text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

# Speakers that are roles: they are named whatever the case ("what did the assistant suggest?").
USER_ROLES: Final = ("user", "human")
ASSISTANT_ROLES: Final = ("assistant", "agent", "bot", "ai")
_ROLES: Final = frozenset((*USER_ROLES, *ASSISTANT_ROLES, "system"))
# "What did you recommend?" is about the assistant's own words.
_MEANS_ASSISTANT: Final = re.compile(
    r"\b(?:did|have|had) you (?:\w+ly )?(?:recommend|suggest|advise|propose|t(?:ell|old)|say|said"
    r"|mention|explain|describe|outline|provide|give|given|show|shown|list|write|written|answer)(?:ed|d)?\b",
    re.IGNORECASE,
)
_NAME_WORDS_MAX: Final = 3
_QUESTION_WORDS_MAX: Final = 64
_QUESTION_CHARACTERS_MAX: Final = 512
# So many speakers are compared one by one; more are looked up in a sorted list.
_COMPARED_MAX: Final = 8
_WORD: Final = re.compile(r"[^\W_]+(?:[-'’.@][^\W_]+)*")
_POSSESSIVE: Final = re.compile(r"['’]s?$")


def names_in(question: str) -> Sequence[str]:
    """What may be a name in a question: runs of one to three words, unique, in order.

    In a question that has capitals at all a name begins with one ("Will" is a name, "will" is
    none), except for roles. A long question's first words are looked at only. "What did you
    recommend?" names the assistant.
    """
    words = [_POSSESSIVE.sub("", word) for word in _WORD.findall(question)[:_QUESTION_WORDS_MAX]]
    has_capitals = any(word[0].isupper() for word in words)
    found: dict[str, None] = {}
    for start, first in enumerate(words):
        if has_capitals and first[0].islower() and first.lower() not in _ROLES:
            continue
        for length in range(1, min(_NAME_WORDS_MAX, len(words) - start) + 1):
            found.setdefault(" ".join(words[start : start + length]))
    if _MEANS_ASSISTANT.search(question[:_QUESTION_CHARACTERS_MAX]):
        found.update(dict.fromkeys(ASSISTANT_ROLES))
    return list(found)


def own_names(user_id: str) -> Sequence[str]:
    """The names under which the user appears as a speaker."""
    return (*USER_ROLES, user_id)


def meant(
    speakers: npt.NDArray[np.int64],
    *,
    named: Sequence[int],
    own: Sequence[int],
    known: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.bool_]:
    """[n] whether each speaker key is one the question means.

    named, own: 32-bit keys of the names in the question, and of the user's own. Where no
    named speaker is in the scope, the user's own words are meant. known: the distinct speakers.
    """
    known = np.unique(speakers) if known is None else known
    matching = _with_key(known, named)
    if not len(matching):
        matching = _with_key(known, own)
    if len(matching) > _COMPARED_MAX:
        return np.isin(speakers, matching)
    found = np.zeros(len(speakers), dtype=bool)
    for speaker in matching:
        found |= speakers == speaker
    return found


def _with_key(speakers: npt.NDArray[np.int64], keys: Sequence[int]) -> npt.NDArray[np.int64]:
    """Those of the speakers whose whole name or first word has one of the keys."""
    if not len(keys):
        return speakers[:0]
    if len(speakers) <= _COMPARED_MAX:
        # For so few, arrays would take longer than numbers.
        low = [(key & 0xFFFFFFFF) for key in keys]
        matching = [
            number
            for number in speakers.tolist()
            if number and ((number >> 32) & 0xFFFFFFFF in low or number & 0xFFFFFFFF in low)
        ]
        return np.array(matching, dtype=np.int64)
    known = np.asarray(keys, dtype=np.int32)
    whole = (speakers >> 32).astype(np.int32)
    first = (speakers & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    found: npt.NDArray[np.int64] = speakers[
        (np.isin(whole, known) | np.isin(first, known)) & (speakers != 0)
    ]
    return found
