"""The contents of an error response, independent of the HTTP library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic_core import from_json


@dataclass(frozen=True, slots=True)
class HttpFault:
    """What distinguishes error responses; the text is inspected and never passed on."""

    status: int
    codes: frozenset[str]  # the body's `code` and `type`, lower case
    message: str  # lower case
    headers: Mapping[str, str]  # lower-case names


class HttpFaultError(Exception):
    """An error response read by `service_client`."""

    def __init__(self, fault: HttpFault) -> None:
        super().__init__(f"HTTP {fault.status}")
        self.fault = fault

    @classmethod
    def of(cls, status: int, body: bytes, headers: Mapping[str, str]) -> HttpFaultError:
        """body: in OpenAI's form, in another one, or a proxy's page."""
        error = _error_of(body)
        words = [error.get("code"), error.get("type")] if isinstance(error, Mapping) else []
        fault = HttpFault(status, lower_words(words), message_of(error), headers)
        return cls(fault)


def lower_words(words: list[object]) -> frozenset[str]:
    return frozenset(word.lower() for word in words if isinstance(word, str))


def message_of(error: object) -> str:
    """The message in an error's body, or in its `error`."""
    words = error.get("message") if isinstance(error, Mapping) else error
    return words[:4096].lower() if isinstance(words, str) else ""


def _error_of(body: bytes) -> object:
    try:
        document: object = from_json(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    return document.get("error", document) if isinstance(document, dict) else document
