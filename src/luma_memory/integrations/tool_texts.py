"""What a model reads of the tools that agent frameworks are given."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, Field

SEARCH_DESCRIPTION: Final = (
    "Find remembered facts, preferences and decisions. Use it before answering about the user,"
    " their work or the past; not for general knowledge."
)
ADD_DESCRIPTION: Final = (
    "Remember what will matter later: a fact, preference or decision the user stated. Not for"
    " secrets, guesses or known facts."
)
NOTHING: Final = "Nothing is remembered about this."
STORED: Final = "Stored."
TOKEN_BUDGET: Final = 800


class SearchArguments(BaseModel):
    """Of `search_memories`."""

    query: str = Field(description="A question, or a topic.")


class AddArguments(BaseModel):
    """Of `add_memory`."""

    content: str = Field(description="One statement.")
