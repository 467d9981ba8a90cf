"""States of scopes that a request has looked up, for its later reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from luma_memory.domain.scope import Scope
from luma_memory.domain.search import ScopeMark


@dataclass(frozen=True, slots=True)
class KnownMark:
    """What the primary database stated about a scope."""

    mark: ScopeMark
    read_at: int  # by its clock, in microseconds since 2000-01-01 UTC
    requested_at: float  # time.monotonic() of this process before it was read


_known: ContextVar[dict[Scope, KnownMark] | None] = ContextVar("known_marks", default=None)


@contextmanager
def marks_known() -> Iterator[None]:
    """Reads in this context, and its tasks, share look-ups: a result is at least as new as the
    first of them, and so has every write that was acknowledged before this began."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def note_mark(scope: Scope, known: KnownMark) -> None:
    """Without effect outside of `marks_known`."""
    marks = _known.get()
    if marks is not None:
        marks[scope] = known


def known_mark(scope: Scope) -> KnownMark | None:
    """What was looked up in this context."""
    marks = _known.get()
    return None if marks is None else marks.get(scope)
