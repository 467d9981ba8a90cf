"""A request to a model and its reply, independent of the protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from pydantic import BaseModel

_TOKENS_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Question:
    """The part of a request that is the same for all calls."""

    instructions: str
    output: type[BaseModel]  # the response schema
    output_tokens_max: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The response of a model."""

    text: str  # the JSON, if the model kept to the schema
    is_refused: bool = False
    model: str | None = None  # as the service names the model
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
        """A function that sends one message and returns the reply. Nothing is sent yet.

        Raises SetupError for a question that this model does not support. A call raises as
        `Embedder.embed_documents`, without text of the provider in the error.
        """
        ...

    async def close(self) -> None: ...


def bounded_tokens(count: object) -> int:
    """The token count of a service; 0 for an invalid one."""
    return min(max(count, 0), _TOKENS_MAX) if isinstance(count, int) else 0
