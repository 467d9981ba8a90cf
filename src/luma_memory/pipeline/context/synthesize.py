"""What a model wrote from blocks, checked before anybody sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from luma_memory.domain.context import Citation, ContextBlock, Statement, Synthesis
from luma_memory.domain.inert_text import is_inert
from luma_memory.ports.models import TokenCounter

STATEMENTS_MAX: Final = 60
STATEMENT_CHARACTERS_MAX: Final = 2_000
_SPACE: Final = re.compile(r"\s+")
# A mark the model wrote into its text itself stands for nothing we checked.
_MARK: Final = re.compile(r"\s*\[\d+(?:\s*[,;–-]\s*\d+)*\]")


@dataclass(frozen=True, slots=True)
class Written:
    """A text that rests on blocks."""

    text: str
    citations: Sequence[Citation]
    token_count: int
    is_whole: bool  # False: statements were left out for the budget


async def checked_text(
    synthesis: Synthesis,
    blocks: Sequence[ContextBlock],
    *,
    token_budget: int,
    tokens: TokenCounter,
) -> Written | None:
    """The statements with their marks, within the budget; None when they must not be shown.

    A synthesis that names a block which was not given is made up, and so all of it is refused. A
    statement without a mark rests on nothing and is left out; without any statement nothing is
    shown.
    """
    statements = synthesis.statements[:STATEMENTS_MAX]
    if any(not 1 <= mark <= len(blocks) for said in statements for mark in said.marks):
        return None
    kept = [line for said in statements if (line := _line(said)) is not None]
    is_whole = True
    while kept:
        text = "\n".join(line for line, _ in kept)
        (count,) = await tokens.count([text])
        if count <= token_budget:
            marks = sorted({mark for _, marks in kept for mark in marks})
            citations = [Citation(mark, blocks[mark - 1].id) for mark in marks]
            return Written(text, citations, count, is_whole)
        kept.pop()
        is_whole = False
    return None


def _line(said: Statement) -> tuple[str, Sequence[int]] | None:
    """One line with its marks behind it; None without a text or a mark."""
    words = _inert(_MARK.sub("", said.text[:STATEMENT_CHARACTERS_MAX]))
    marks = sorted(set(said.marks))
    if not words or not marks:
        return None
    return f"{words} {''.join(f'[{mark}]' for mark in marks)}", marks


def _inert(text: str) -> str:
    """One line without signs that act on its reader, and without what could close a tag."""
    kept = "".join(sign for sign in text if sign.isspace() or is_inert(sign))
    return _SPACE.sub(" ", kept).replace("<", "‹").replace(">", "›").strip()
