"""Spans: what a request or a job did, and how long each part of it took.

Nothing is recorded until a recorder is installed, and until then almost nothing is done: `span`
returns one object without effect, and a traced function is called directly. The catalogue
of names and values is docs/tracing.md.

Values are numbers, ids, names of models and codes. Texts and users' ids are for `content`, which
stays empty unless an operator enabled it; secrets are never recorded.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from time import time_ns
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, Protocol, Self, TypeAlias, TypeVar, cast

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")

Kind: TypeAlias = Literal["internal", "server", "client", "consumer"]
# Anything: what is neither a number nor a text is converted to text. None is left out.
Values: TypeAlias = Mapping[str, object]
# W3C's trace context as one text. "" begins a new trace; None continues the current one.
Parent: TypeAlias = "str | None"
NEW_TRACE: Final = ""


class Span(Protocol):
    """A part of the current work."""

    def rename(self, name: str) -> None:
        """Set the name if it is known only later."""
        ...

    def set(self, values: Values) -> None:
        """Add attributes."""
        ...

    def content(self, values: Callable[[], Values]) -> None:
        """Add texts, which are computed only if content is recorded."""
        ...

    def failed(self, error: BaseException) -> None:
        """Mark it as failed with this error without an exception."""
        ...


class Recorder(Protocol):
    """What records spans."""

    def span(
        self,
        name: str,
        *,
        kind: Kind,
        parent: Parent,
        links: Sequence[str],
        values: Values,
        started_ns: int | None,
    ) -> AbstractContextManager[Span]:
        """A span from entering to leaving; an exception marks it as failed."""
        ...

    def current(self) -> Span: ...

    def traceparent(self) -> str | None:
        """The current span, to continue it elsewhere; None outside of any."""
        ...


class _Nothing:
    """The span of a process that records none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def rename(self, name: str) -> None:
        return None

    def set(self, values: Values) -> None:
        return None

    def content(self, values: Callable[[], Values]) -> None:
        return None

    def failed(self, error: BaseException) -> None:
        return None


NOTHING: Final = _Nothing()
_NO_VALUES: Final[Values] = {}
_recorder: Recorder | None = None


def install(recorder: Recorder | None) -> None:
    """Record spans in this process from now on; None: stop."""
    global _recorder
    _recorder = recorder


def is_on() -> bool:
    """Whether spans are recorded, for attributes that are costly to compute."""
    return _recorder is not None


def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: Parent = None,
    links: Sequence[str] = (),
    values: Values = _NO_VALUES,
    started_ns: int | None = None,
) -> AbstractContextManager[Span]:
    """Record what happens inside.

    links: other spans that this one works for. started_ns: by `now_ns`, for work that turns out to
    be worth a span only at its end.
    """
    if _recorder is None:
        return NOTHING
    return _recorder.span(
        name, kind=kind, parent=parent, links=links, values=values, started_ns=started_ns
    )


def current() -> Span:
    """The current span, to add attributes to it."""
    return NOTHING if _recorder is None else _recorder.current()


def now_ns() -> int:
    """The clock of the spans."""
    return time_ns()


def traceparent() -> str | None:
    """The current span, for work that continues in another task or process."""
    return None if _recorder is None else _recorder.traceparent()


def traced(name: str) -> Callable[[Callable[ParamsT, ResultT]], Callable[ParamsT, ResultT]]:
    """Record each call of a function, or of a coroutine function, as a span of that name."""

    def decorate(function: Callable[ParamsT, ResultT]) -> Callable[ParamsT, ResultT]:
        if inspect.iscoroutinefunction(function):

            async def recorded(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Any:
                with span(name):
                    return await cast("Any", function)(*args, **kwargs)

        else:

            def recorded(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> Any:  # type: ignore[misc]
                with span(name):
                    return function(*args, **kwargs)

        # Without a recorder, the function's own coroutine is awaited.
        @functools.wraps(function)
        def called(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ResultT:
            if _recorder is None:
                return function(*args, **kwargs)
            return cast("ResultT", recorded(*args, **kwargs))

        return called

    return decorate
