"""What a model is asked, and what it answers, whoever carries it there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from pydantic import BaseModel

_TOKENS_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Question:
    """What stays the same from call to call."""

    instructions: str
    answer: type[BaseModel]  # the shape that is demanded
    output_tokens_max: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    text: str  # the answer's JSON, if the model kept to it
    is_refused: bool = False
    model: str | None = None  # as the service names it
    input_tokens: int = 0
    output_tokens: int = 0


Ask: TypeAlias = Callable[[str], Awaitable[Reply]]


class CompletionModel(Protocol):
    """A model ready to be called, with its own connections."""

    @property
    def id(self) -> str:
        """ "vendor/model"."""
        ...

    def prepared(self, question: Question) -> Ask:
        """Whoever calls it sends one message and gets its reply. Nothing is sent yet.

        Raises SetupError for a question this model cannot be asked. A call raises as
        `Embedder.embed_documents`, with nothing of the other side's text in it.
        """
        ...

    async def close(self) -> None: ...


def bounded_tokens(count: object) -> int:
    """What a service says it counted; 0 for what is no count."""
    return min(max(count, 0), _TOKENS_MAX) if isinstance(count, int) else 0
