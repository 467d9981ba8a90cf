"""What reaches a log, and what must not."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from luma_memory.domain.errors import InvariantError
from luma_memory.telemetry import logs
from luma_memory.telemetry.events import RequestHandled
from luma_memory.telemetry.logs import configure_logs, log_failure, plain_line

TEXT = "Caroline's secret"


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process with JSON lines writes; the set-up before is back afterwards."""
    monkeypatch.setattr(logs, "_logger", logs._logger)
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    out = io.StringIO()
    configure_logs(level="info", json_lines=True, stream=out)
    yield out
    logging.getLogger().handlers = handlers
    structlog.configure(**before)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"job_id": 7, "job_type": "enrich_and_embed", "duration_ms": 12.5, "final": None},
        {"z": "a b", "a": "it's", "m": 'say "x"', "e": "", "t": "a\tb", "n": "a\nb", "k": "a=b"},
        {"u": "ünï", "list": ["a b", 1], "error": ValueError("no")},
        {"exception": "Traceback:\n  here"},
        {"logger": "uvicorn.error", "exc_info": None, "a": 1},
        {"logger_name": "asyncio", "stack": "where"},
    ],
)
@pytest.mark.parametrize(
    ("level", "event"), [("info", "✅ Done  "), ("exception", "x"), ("warning", "a=b")]
)
def test_lines_without_colors_equal_the_librarys(
    level: str, event: str, values: dict[str, Any]
) -> None:
    line = {"timestamp": "2026-01-01T00:00:00Z", "level": level, "event": event, **values}
    library = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    assert plain_line(None, level, dict(line)) == library(None, level, dict(line))


def _failing() -> None:
    try:
        raise ValueError(TEXT)
    except ValueError as error:
        raise InvariantError("a statement was misused") from error


def test_a_failure_keeps_its_trace_and_no_foreign_text(stream: io.StringIO) -> None:
    try:
        _failing()
    except InvariantError as error:
        log_failure("A request met our own bug", error)
    (line,) = _lines(stream)
    assert TEXT not in stream.getvalue()
    assert line["event"] == "A request met our own bug"
    assert "in _failing" in line["exception"]
    assert line["exception"].index("builtins.ValueError") < line["exception"].index(
        "luma_memory.domain.errors.InvariantError: a statement was misused"
    )


def test_the_context_of_an_error_is_logged_too(stream: io.StringIO) -> None:
    try:
        try:
            raise KeyError(TEXT)
        except KeyError:
            raise TypeError(TEXT)  # noqa: B904 - what is tested
    except TypeError as error:
        log_failure("twice", error)
    (line,) = _lines(stream)
    assert TEXT not in stream.getvalue()
    assert "builtins.KeyError" in line["exception"]


def test_warnings_of_libraries_are_lines_of_ours(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").info("Started server process")
    (line,) = _lines(stream)
    assert (line["event"], line["level"]) == ("Invalid HTTP request received.", "warning")
    assert line["logger"] == "uvicorn.error"


def test_the_driver_logs_no_trace_for_each_broken_connection(stream: io.StringIO) -> None:
    try:
        raise ConnectionResetError
    except ConnectionResetError:
        logging.getLogger("asyncpg.pool").exception("Resetting connection failed")
    (line,) = _lines(stream)
    assert (line["event"], line["level"]) == ("Resetting connection failed", "error")
    assert "exception" not in line


async def test_a_forgotten_task_is_reported_without_its_text(stream: io.StringIO) -> None:
    async def fails() -> None:
        raise ValueError(TEXT)

    task = asyncio.create_task(fails())
    await asyncio.wait([task])
    del task
    gc.collect()
    (line,) = _lines(stream)
    assert TEXT not in stream.getvalue()
    assert line["event"] == "Task exception was never retrieved"
    assert "in fails" in line["exception"]


def test_setting_up_twice_reports_once(stream: io.StringIO) -> None:
    configure_logs(level="info", json_lines=True, stream=stream)
    logging.getLogger("asyncio").warning("slow")
    assert len(_lines(stream)) == 1


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        ("/blocks", 503, "error"),
        ("/blocks", 422, "info"),
        ("unmatched", 404, "info"),
        ("/blocks", 202, "debug"),
        ("/health/ready", 503, "debug"),  # a probe before its time is no failure
        ("/health", 200, "debug"),
    ],
)
def test_a_request_that_failed_is_an_error_and_a_probe_is_not(
    path: str, status: int, level: str
) -> None:
    assert RequestHandled("GET", path, status, 1.0).level == level
