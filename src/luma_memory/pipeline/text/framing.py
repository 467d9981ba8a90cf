"""Leave out of a question what is about the conversation and not about its subject.

"What profession did I mention I work in?" and "Can you list the order in which I brought up the
garden, in two sentences?" ask about a profession and a garden. The other words bring every turn
near that lists, mentions or discusses something (docs/recall.md). Only what is searched changes;
names and times are read from the whole question. English alone: other languages stay as they are.
"""

from __future__ import annotations

import re
from typing import Final

_CHARACTERS_MAX: Final = 512
_WORDS_LEFT_MIN: Final = 3
_FRAME: Final = re.compile(
    r"""(?<![\w'’-])(?:
    (?:can|could|would|will)\ you\ (?:please\ )?
        (?:list|tell\ me|remind\ me|show\ me|walk\ me\ through|go\ over|summari[sz]e)
        (?:\ (?:of|about))?(?:\ the\ order\ in\ which)?
    | the\ order\ in\ which
    | (?:i|we)(?:\ have|\ had|['’]ve|['’]d)?
        \ (?:brought\ up|mentioned|discussed|talked\ about|(?:asked|told)(?:\ you)?\ about)
        (?:\ (?:different|various|several)\ (?:aspects|parts|topics|concepts)
            \ (?:of|related\ to|about))?
    | did\ (?:i|we)
        \ (?:mention|say|tell\ you|bring\ up|talk\ about|discuss|ask(?:\ you)?\ about)
    | (?:throughout|across|during|over|in)\ (?:all\ )?(?:of\ )?(?:our|my)(?:\ entire|\ whole)?
        \ (?:conversations?|chats?|discussions)(?!\ (?:with|about|on|at|and)\b)
    | in(?:\ chronological)?\ order(?!\ (?:to|that|for|of)\b)
    )(?![\w'’-])[,:]?""",
    re.IGNORECASE | re.VERBOSE,
)
# After the question: "Mention only five items." "Answer in one sentence."
_FORM: Final = re.compile(
    r"(?<=[?.!])\s+(?:mention|list|name|give|answer|respond|reply)\b[^.?!\n]{0,60}"
    r"\b(?:items?|sentences?|words?|points?|bullets?|examples?)[.!]?\s*\Z",
    re.IGNORECASE,
)


def without_framing(question: str) -> str:
    """The question without words about the conversation or the form of the response.

    Unchanged if it is long, or if fewer than three words would be left.
    """
    if len(question) > _CHARACTERS_MAX:
        return question
    found = _FRAME.sub(" ", _FORM.sub("", question))
    if found == question:
        return question
    found = re.sub(r"[\s,]+(?=[?.!,])", "", " ".join(found.split())).strip(" ,")
    return found if len(re.findall(r"\w+", found)) >= _WORDS_LEFT_MIN else question
