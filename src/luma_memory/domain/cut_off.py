"""Calls of a provider that somebody's deadline ends: they are paid for without a result."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from luma_memory.domain.enrichment import ModelCall

_calls: ContextVar[list[ModelCall] | None] = ContextVar("calls_under_way", default=None)


@contextmanager
def calls_under_way() -> Iterator[list[ModelCall]]:
    """The list of calls begun inside, also by tasks begun inside, that have neither a result nor an
    error: after a deadline, those that it cut off.
    """
    calls: list[ModelCall] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


@contextmanager
def under_way(call: ModelCall) -> Iterator[None]:
    """Around a call: it is in `calls_under_way` meanwhile, and stays there when it is cancelled."""
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
