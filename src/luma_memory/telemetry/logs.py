"""Structured logs: one subscriber to the events, and the set-up an entrance calls once."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO, get_args

import structlog

from luma_memory.telemetry.events import Event, Level


def configure_logs(*, level: str, json_lines: bool, stream: TextIO | None = None) -> None:
    """Set up structlog for this process. Only entrances call this; a host keeps its own set-up."""
    out = stream or sys.stderr
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )


_LEVELS = {name: getattr(logging, name.upper()) for name in get_args(Level)}


def log_event(event: Event) -> None:
    """Write an event as one line: the message, then its fields."""
    logger, level = structlog.get_logger(), _LEVELS[event.level]
    if logger.is_enabled_for(level):  # or every request would format a line that nobody reads
        logger.log(level, event.message(), **event.values())


def log_failure(message: str, error: BaseException) -> None:
    """Our own bug: the line carries its trace, without the values of any frame."""
    structlog.get_logger().error(message, exc_info=error)


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
