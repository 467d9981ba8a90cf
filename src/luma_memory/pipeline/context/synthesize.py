"""Validate the text that a model wrote from blocks."""

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
# A mark that the model wrote into its text is not validated.
_MARK: Final = re.compile(r"\s*\[\d+(?:\s*[,;–-]\s*\d+)*\]")


@dataclass(frozen=True, slots=True)
class Written:
    """A text with citations of blocks."""

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
    """The statements with their marks, within the budget; None if the synthesis is rejected.

    A synthesis that cites a block outside the request is rejected as a whole. A statement without a
    mark is dropped; a synthesis without any other statement is rejected.
    """
    statements = synthesis.statements[:STATEMENTS_MAX]
    if any(not 1 <= mark <= len(blocks) for entry in statements for mark in entry.marks):
        return None
    kept = [line for entry in statements if (line := _line(entry)) is not None]
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


def _line(statement: Statement) -> tuple[str, Sequence[int]] | None:
    """One line followed by its marks; None without a text or a mark."""
    words = _inert(_MARK.sub("", statement.text[:STATEMENT_CHARACTERS_MAX]))
    marks = sorted(set(statement.marks))
    if not words or not marks:
        return None
    return f"{words} {''.join(f'[{mark}]' for mark in marks)}", marks


def _inert(text: str) -> str:
    """One line without invisible control characters and without angle brackets."""
    kept = "".join(sign for sign in text if sign.isspace() or is_inert(sign))
    return _SPACE.sub(" ", kept).replace("<", "‹").replace(">", "›").strip()
