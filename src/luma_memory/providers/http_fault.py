"""What an error answer says, whichever library read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic_core import from_json


@dataclass(frozen=True, slots=True)
class HttpFault:
    """What tells one error answer from another; its text is looked at and never passed on."""

    status: int
    codes: frozenset[str]  # the body's `code` and `type`, lower case
    message: str  # lower case
    headers: Mapping[str, str]  # lower-case names


class HttpFaultError(Exception):
    """An error answer of `service_client`."""

    def __init__(self, fault: HttpFault) -> None:
        super().__init__(f"HTTP {fault.status}")
        self.fault = fault

    @classmethod
    def of(cls, status: int, body: bytes, headers: Mapping[str, str]) -> HttpFaultError:
        """body: in OpenAI's form, in another one, or a page of a proxy in front."""
        said = _error_of(body)
        words = [said.get("code"), said.get("type")] if isinstance(said, Mapping) else []
        fault = HttpFault(status, lower_words(words), message_of(said), headers)
        return cls(fault)


def lower_words(words: list[object]) -> frozenset[str]:
    return frozenset(word.lower() for word in words if isinstance(word, str))


def message_of(said: object) -> str:
    """The words of an error's body, or of its `error`."""
    words = said.get("message") if isinstance(said, Mapping) else said
    return words[:4096].lower() if isinstance(words, str) else ""


def _error_of(body: bytes) -> object:
    try:
        answer: object = from_json(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    return answer.get("error", answer) if isinstance(answer, dict) else answer
