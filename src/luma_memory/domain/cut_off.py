"""Track provider calls that a caller's deadline cuts off: they cost money without a result."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from luma_memory.domain.enrichment import ModelCall

_calls: ContextVar[list[ModelCall] | None] = ContextVar("calls_in_progress", default=None)


@contextmanager
def calls_in_progress() -> Iterator[list[ModelCall]]:
    """The calls started in this context (and its tasks) that have neither a result nor an error.

    After a deadline, these are the calls that it cut off.
    """
    calls: list[ModelCall] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


@contextmanager
def in_progress(call: ModelCall) -> Iterator[None]:
    """List the call in `calls_in_progress` while it runs; it stays there if it is cancelled."""
    calls = _calls.get()
    if calls is None:
        yield
        return
    calls.append(call)
    try:
        yield
    except asyncio.CancelledError:
        raise
    except BaseException:
        calls.remove(call)
        raise
    calls.remove(call)
