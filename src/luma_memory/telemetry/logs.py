"""Structured logs: a subscriber to the events, and the setup that an entry point calls once."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from types import TracebackType
from typing import TextIO, TypeAlias, get_args

import structlog

from luma_memory.telemetry.events import Event, Level
from luma_memory.telemetry.line_writer import LineWriter
from luma_memory.telemetry.requests import add_request_id

ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
_OWN_MODULES = f"{__name__.partition('.')[0]}."
_LEVELS = {name: getattr(logging, name.upper()) for name in get_args(Level)}
_COLUMNS = frozenset({"logger", "logger_name", "stack", "exc_info"})
_console = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
_QUOTED = frozenset(" \t=\r\n\"'")
# Bound once: getting a logger for each event would cost more than a filtered line should.
_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def configure_logs(*, level: str, json_lines: bool, stream: TextIO | None = None) -> None:
    """Set up structlog for this process, libraries' warnings included.

    Only entry points call this; a host application keeps its own setup.
    """
    out = stream or sys.stderr
    writer = LineWriter(out)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)
        if out.isatty()
        else plain_line
    )
    structlog.configure(
        processors=[
            add_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(trace_without_texts),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_names: writer,
        cache_logger_on_first_use=True,
    )
    global _logger
    _logger = structlog.get_logger().bind()
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if not isinstance(kept, _Forwarder)]
    root.addHandler(_Forwarder(logging.WARNING))


def plain_line(
    _logger: structlog.typing.WrappedLogger, _method: str, values: structlog.typing.EventDict
) -> str:
    """The output of structlog's ConsoleRenderer without colors, in a fifth of its time.

    A worker writes one line per block, and this took a fortieth of its time.
    """
    if not _COLUMNS.isdisjoint(values):  # messages of libraries
        return _console(_logger, _method, values)
    exception = values.pop("exception", None)
    line = f"{values.pop('timestamp')} [{values.pop('level'):<9}] {values.pop('event')}"
    fields = [f" {key}={_shown(values[key])}" for key in sorted(values)]
    return f"{line}{''.join(fields)}".rstrip(" ") + ("" if exception is None else f"\n{exception}")


def _shown(value: object) -> str:
    is_plain = isinstance(value, str) and _QUOTED.isdisjoint(value)
    return str(value) if is_plain else repr(value)


def log_event(event: Event) -> None:
    """Write an event as one line: the message, then its fields."""
    level = _LEVELS[event.level]
    if _logger.is_enabled_for(level):  # a filtered line is not formatted
        _logger.log(level, event.message(), **event.values())


def log_failure(message: str, error: BaseException) -> None:
    """Log a bug with its trace, in the form of `trace_without_texts`."""
    structlog.get_logger().error(message, exc_info=error)


def trace_without_texts(exc_info: ExceptionInfo) -> str:
    """The trace of an error and of its causes, first cause first.

    Errors of libraries are shown by their type alone: a driver quotes the row, a parser the text
    it failed on. Messages of this package contain neither.
    """
    links: list[BaseException] = []
    link: BaseException | None = exc_info[1]
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n".join(map(_described, reversed(links)))


def _described(error: BaseException) -> str:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    message = f": {error}" if kind.__module__.startswith(_OWN_MODULES) else ""
    return "".join(traceback.format_tb(error.__traceback__)) + name + message


class _Forwarder(logging.Handler):
    """Warnings of libraries (server, driver, event loop), as lines of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        # Only the first line: asyncio appends a task's repr, with the text of its error.
        first_line = record.getMessage().partition("\n")[0]
        # The driver logs the trace of each broken connection: in an outage of the database
        # that is all of them, and the service's own errors report the cause.
        exc_info = None if record.name.startswith("asyncpg") else record.exc_info
        structlog.get_logger().log(
            record.levelno, first_line, logger=record.name, exc_info=exc_info
        )


class Stopwatch:
    """Milliseconds since it was made, and since its last lap."""

    def __init__(self) -> None:
        self._started = self._lap = time.perf_counter()

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1000

    def lap_ms(self) -> float:
        """Milliseconds since the last lap; begins the next one."""
        last, self._lap = self._lap, time.perf_counter()
        return (self._lap - last) * 1000
