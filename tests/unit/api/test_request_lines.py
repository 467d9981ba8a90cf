"""Log lines of a request: which request, and which outcome."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, HTTPException, Response
from starlette.testclient import TestClient

from luma_memory.api.request_context import RequestContext
from luma_memory.telemetry import logs
from luma_memory.telemetry.events import CacheMiss
from luma_memory.telemetry.logs import configure_logs, log_event


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    monkeypatch.setattr(logs, "_logger", logs._logger)
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    out = io.StringIO()
    configure_logs(level="debug", json_lines=True, stream=out)
    yield out
    logging.getLogger().handlers = handlers
    structlog.configure(**before)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _application() -> RequestContext:
    app = FastAPI()

    @app.get("/ok")
    async def ok() -> None:
        log_event(CacheMiss("absent"))
        logging.getLogger("library").warning("slow")
        await asyncio.create_task(_log("in a task"))

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(422)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    return RequestContext(app, emit=log_event, routes=[])


async def _log(text: str) -> None:
    structlog.get_logger().info(text)


@pytest.mark.parametrize(
    ("path", "lines"), [("/ok", 4), ("/refused", 1), ("/broken", 2), ("/nowhere", 1)]
)
def test_every_line_of_a_request_names_it(stream: io.StringIO, path: str, lines: int) -> None:
    client = TestClient(_application(), raise_server_exceptions=False)
    response = client.get(path, headers={"X-Request-ID": "mine"})
    ours = [line for line in _lines(stream) if line.get("logger") != "httpx"]
    assert [line["request_id"] for line in ours] == ["mine"] * lines
    assert response.headers["X-Request-ID"] == "mine"


@pytest.mark.parametrize(("path", "level"), [("/refused", "info"), ("/nowhere", "info")])
def test_a_refused_request_leaves_a_line(stream: io.StringIO, path: str, level: str) -> None:
    TestClient(_application()).get(path)
    (line,) = (line for line in _lines(stream) if "status" in line)
    assert line["level"] == level


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_request_that_is_refused_before_its_route_is_named_by_it(
    stream: io.StringIO, method: str
) -> None:
    app = FastAPI()

    @app.get("/blocks/{block_id}")
    async def block(block_id: str) -> str:
        return block_id

    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        await Response(status_code=401)(scope, receive, send)

    client = TestClient(RequestContext(refuses, emit=log_event, routes=app.routes))
    client.request(method, "/blocks/7")
    client.request(method, "/block/7")
    paths = [line["path"] for line in _lines(stream) if "status" in line]
    assert paths == ["/blocks/{block_id}", "unmatched"]


async def test_a_task_that_outlives_its_request_names_none(stream: io.StringIO) -> None:
    ended = asyncio.Event()
    tasks = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        tasks.append(asyncio.create_task(_after(ended)))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(_message: Any) -> None:
        return

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await RequestContext(app, emit=log_event, routes=[])(scope, send, send)  # type: ignore[arg-type]
    ended.set()
    await asyncio.gather(*tasks)
    handled, later = _lines(stream)
    assert "request_id" in handled
    assert "request_id" not in later


async def _after(event: asyncio.Event) -> None:
    await event.wait()
    await _log("flushed")
