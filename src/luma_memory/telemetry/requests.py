"""The request that a log line belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

FIELD = "request_id"


@dataclass(slots=True)
class _Request:
    id: str
    has_ended: bool = False


_current: ContextVar[_Request | None] = ContextVar("request", default=None)


@contextmanager
def in_request(request_id: str) -> Iterator[None]:
    """Every line logged inside, also by tasks started there, names the request until it ends.

    Tasks that a request starts and that outlive it (a flush, a connection's watch) inherit its
    context: they name no request afterwards, or their lines would name the first one forever.
    """
    request = _Request(request_id)
    token = _current.set(request)
    try:
        yield
    finally:
        request.has_ended = True
        _current.reset(token)


def add_request_id(
    _logger: structlog.typing.WrappedLogger, _method: str, values: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A processor of structlog."""
    request = _current.get()
    if request is not None and not request.has_ended:
        values.setdefault(FIELD, request.id)
    return values
