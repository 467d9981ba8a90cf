"""What every SDK does, as a table: a scripted service, a call, and what must come of it.

The Python SDKs and the TypeScript SDK run the same rows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

_BLOCK_ID: Final = "0199a0b2-0000-7000-8000-000000000001"
_AT: Final = "2026-03-04T10:00:00Z"


@dataclass(frozen=True)
class Reply:
    """A response of the scripted service. cut: the connection ends after the body, too early.

    status 0: the connection ends without a response; -1: no response, until the client gives up.
    events: the positions of a stream of events; those after the requested one are sent.
    """

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    events: Sequence[int] = ()

    def text(self, path: str) -> str:
        if self.events:
            after = int((parse_qs(urlsplit(path).query).get("after") or ["0"])[0])
            return "".join(_event(position) for position in self.events if position > after)
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


@dataclass(frozen=True)
class Behavior:
    """One row. value: the call's result, as JSON; error: its class and code otherwise.

    requests: how many arrive. one_key: they carry one Idempotency-Key, the same in all of them.
    pause_seconds_min: between the first two. paths: of the requests, where they matter.
    """

    name: str
    call: Mapping[str, Any]
    replies: Sequence[Reply]
    value: object = None
    error: tuple[str, str] | None = None
    retry_after_seconds: float | None = None
    requests: int = 1
    one_key: bool = False
    pause_seconds_min: float = 0.0
    paths: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    sync: bool = True


def problem(status: int, code: str, *, field_name: str | None = None, **headers: str) -> Reply:
    errors = [{"field": field_name, "code": "x", "detail": "y"}] if field_name else []
    body = {
        "type": "about:blank",
        "title": "t",
        "status": status,
        "detail": "Some detail",
        "code": code,
        "errors": errors,
        "request_id": "request-7",
    }
    return Reply(status, body, {name.replace("_", "-"): text for name, text in headers.items()})


def _block(number: int = 1, *, status: str = "active", error: str | None = None) -> dict[str, Any]:
    empty = dict.fromkeys(
        (
            *("enrichment_model", "agent_id", "session_id", "speaker", "source", "external_id"),
            *("expires_at", "title", "summary", "importance", "language", "superseded_by"),
            *("superseded_at", "job_id"),
        )
    )
    return {
        **empty,
        "id": _BLOCK_ID[:-1] + str(number),
        "user_id": "ada",
        "content": f"Block {number}",
        "status": status,
        "enrichment": "local",
        "metadata": {},
        "occurred_at": _AT,
        "tags": [],
        "entities": [],
        "error": error,
        "revision": 1,
        "created_at": _AT,
        "updated_at": _AT,
    }


def _page(*numbers: int, cursor: str | None = None) -> Reply:
    return Reply(body={"blocks": [_block(number) for number in numbers], "next_cursor": cursor})


def _event(position: int) -> str:
    data = {
        "id": f"evt_{position}",
        "type": "block.active",
        "timestamp": _AT,
        "data": {"user_id": "ada"},
        "position": position,
    }
    return f"id: {position}\nevent: block.active\ndata: {json.dumps(data)}\n\n"


def _lines(*kinds: str) -> str:
    return "".join(json.dumps({"kind": kind}) + "\n" for kind in kinds)


_STREAM: Final = {"content-type": "text/event-stream"}
_ACCEPTED: Final = Reply(202, {"id": _BLOCK_ID, "status": "pending_enrichment", "job_id": 5})
_GET: Final = {"do": "get_block"}
_INGEST: Final = {"do": "ingest"}
_DOWN: Final = problem(503, "database_unavailable")
_STORE_DOWN: Final = ("StoreUnavailable", "database_unavailable")

BEHAVIORS: Final = (
    Behavior("a result", _GET, [Reply(body=_block())], _BLOCK_ID),
    Behavior(
        "503, then a result", _GET, [_DOWN, _DOWN, Reply(body=_block())], _BLOCK_ID, requests=3
    ),
    Behavior("503 until attempts end", _GET, [_DOWN] * 4, error=_STORE_DOWN, requests=3),
    Behavior(
        "408 and a gateway's 502 are tried again",
        _GET,
        [problem(408, "request_timeout"), Reply(502, "<html>"), Reply(body=_block())],
        _BLOCK_ID,
        requests=3,
    ),
    Behavior(
        "Retry-After is waited for",
        _GET,
        [problem(503, "database_unavailable", retry_after="1"), Reply(body=_block())],
        _BLOCK_ID,
        requests=2,
        pause_seconds_min=0.95,
    ),
    Behavior(
        "Retry-After in milliseconds, at least a second",
        _GET,
        [problem(429, "too_many_requests", retry_after_ms="5"), Reply(body=_block())],
        _BLOCK_ID,
        requests=2,
        pause_seconds_min=0.95,
    ),
    Behavior(
        "Retry-After longer than the call may take",
        _GET,
        [problem(429, "too_many_requests", retry_after="90")],
        error=("QuotaExceeded", "too_many_requests"),
        retry_after_seconds=90.0,
    ),
    Behavior(
        "Retry-After as a date, measured from the response's own",
        _GET,
        [
            problem(
                503,
                "rate_limited",
                date="Wed, 04 Mar 2026 10:00:00 GMT",
                retry_after="Wed, 04 Mar 2026 10:02:00 GMT",
            )
        ],
        error=("RateLimited", "rate_limited"),
        retry_after_seconds=120.0,
    ),
    Behavior(
        "disabled by an operator is final",
        _GET,
        [problem(503, "system_disabled")],
        error=("UnavailableError", "system_disabled"),
    ),
    *(
        Behavior(f"{status} is final", _GET, [problem(status, code)], error=(kind, code))
        for status, code, kind in (
            (401, "credentials_invalid", "Unauthenticated"),
            (403, "user_not_allowed", "Forbidden"),
            (404, "block_not_found", "NotFound"),
            (409, "job_not_failed", "Conflict"),
            (412, "revision_mismatch", "PreconditionFailed"),
            (422, "invalid_request", "Invalid"),
            (500, "internal", "InvariantError"),
            (502, "provider_rejected", "ProviderRejected"),
        )
    ),
    Behavior(
        "another server", _GET, [Reply(404, "Nothing")], error=("SetupError", "not_this_service")
    ),
    Behavior(
        "a redirect is not followed",
        _GET,
        [Reply(302, "", {"location": "/"})],
        error=("SetupError", "not_this_service"),
    ),
    Behavior(
        "a gateway's limit",
        _GET,
        [Reply(429, "busy", {"retry-after": "60"})],
        error=("QuotaExceeded", "gateway_limit"),
        retry_after_seconds=60.0,
    ),
    Behavior(
        "a form unknown to this version",
        _GET,
        [Reply(body="{")],
        error=("ProviderResponseInvalid", "unknown_answer"),
    ),
    Behavior(
        "a lost response of a read", _GET, [Reply(0), Reply(body=_block())], _BLOCK_ID, requests=2
    ),
    Behavior(
        "a body that is cut is tried again",
        _GET,
        [Reply(body=_block(), cut=True), Reply(body=_block())],
        _BLOCK_ID,
        requests=2,
    ),
    Behavior(
        "a lost response of a write, under one key",
        _INGEST,
        [Reply(0), _DOWN, _ACCEPTED],
        _BLOCK_ID,
        requests=3,
        one_key=True,
    ),
    Behavior(
        "a key of the caller's own",
        {"do": "ingest", "key": "order-1815"},
        [_DOWN, _ACCEPTED],
        _BLOCK_ID,
        requests=2,
        one_key=True,
        headers={"idempotency-key": "order-1815"},
    ),
    Behavior(
        "a key that no header can hold",
        {"do": "ingest", "key": "naïve"},
        [],
        error=("Invalid", "idempotency_key_invalid"),
        requests=0,
    ),
    Behavior(
        "credentials in a header alone",
        _GET,
        [Reply(body=_block())],
        _BLOCK_ID,
        headers={"authorization": "Bearer lmk_x"},
        options={"api_key": "lmk_x"},
    ),
    Behavior(
        "names are escaped in a path",
        {"do": "erase", "user_id": "../a b?c"},
        [problem(404, "user_not_found")],
        error=("NotFound", "user_not_found"),
        paths=["/users/%2E%2E%2Fa%20b%3Fc"],
    ),
    Behavior(
        "an expected revision",
        {"do": "delete_block", "revision": 3},
        [Reply(204, "")],
        None,
        one_key=True,
        headers={"if-match": '"3"'},
    ),
    Behavior(
        "pages on demand",
        {"do": "iterate_blocks"},
        [_page(1, 2, cursor="next/page"), _DOWN, _page(cursor="more"), _page(3)],
        ["Block 1", "Block 2", "Block 3"],
        requests=4,
        paths=[
            "/blocks?user_id=ada",
            *["/blocks?user_id=ada&cursor=next%2Fpage"] * 2,
            "/blocks?user_id=ada&cursor=more",
        ],
    ),
    Behavior(
        "waiting for enrichment",
        {"do": "wait"},
        [Reply(body=_block(status="pending_enrichment")), Reply(body=_block())],
        _BLOCK_ID,
        requests=2,
    ),
    Behavior(
        "a failed enrichment",
        {"do": "wait"},
        [Reply(body=_block(status="failed", error="no"))],
        error=("RejectedError", "enrichment_failed"),
    ),
    Behavior(
        "waiting ends",
        {"do": "wait", "timeout_seconds": 0},
        [Reply(body=_block(status="pending_enrichment"))],
        error=("UnavailableError", "still_pending"),
    ),
    Behavior("a whole export", {"do": "export"}, [Reply(body=_lines("user", "block", "end"))], 3),
    Behavior(
        "an export is opened again, not continued",
        {"do": "export"},
        [_DOWN, Reply(body=_lines("user", "end"))],
        2,
        requests=2,
    ),
    Behavior(
        "an export without its end",
        {"do": "export"},
        [Reply(body=_lines("user", "block"))],
        error=("UnavailableError", "export_incomplete"),
    ),
    Behavior(
        "an export that is cut off",
        {"do": "export"},
        [Reply(body=_lines("user", "block"), cut=True)],
        error=("UnavailableError", "connection_lost"),
    ),
    Behavior(
        "an import is not repeated",
        {"do": "import"},
        [_DOWN],
        error=_STORE_DOWN,
    ),
    Behavior(
        "events until now",
        {"do": "events"},
        [Reply(body=": hello\n\n" + _event(8) + _event(9), headers=_STREAM)],
        [8, 9],
        paths=["/events?wait_seconds=0"],
    ),
    Behavior(
        "events continue where they stopped",
        {"do": "events", "after": 7, "count": 3},
        [
            Reply(events=[8], headers=_STREAM),
            _DOWN,
            Reply(events=[8, 9, 10], headers=_STREAM),
        ],
        [8, 9, 10],
        requests=3,
        paths=["/events?after=7", *["/events?after=8"] * 2],
    ),
    # Bun discards bytes that arrive together with the loss of the connection.
    Behavior(
        "no event is lost or doubled by a lost connection",
        {"do": "events", "after": 7, "count": 3},
        [
            Reply(events=[8], headers=_STREAM, cut=True),
            Reply(events=[8, 9, 10], headers=_STREAM),
        ],
        [8, 9, 10],
        requests=2,
    ),
    Behavior(
        "events that are not kept any more",
        {"do": "events", "after": 1},
        [problem(409, "events_expired")],
        error=("Conflict", "events_expired"),
    ),
    Behavior(
        "what is no stream of events",
        {"do": "events"},
        [Reply(body="id: x\n\n", headers=_STREAM)],
        error=("UnavailableError", "stream_invalid"),
        options={"attempts_max": 1},
    ),
    Behavior(
        "a service that does not respond",
        _GET,
        [Reply(-1)] * 2,
        error=("UnavailableError", "service_timeout"),
        requests=2,
        options={"timeout_seconds": 0.2, "attempts_max": 2},
    ),
    Behavior(
        "aborted by the caller",
        {"do": "abort"},
        [Reply(-1)],
        "aborted",
        sync=False,
    ),
    Behavior(
        "aborted between two attempts",
        {"do": "abort"},
        [problem(503, "database_unavailable", retry_after="9")],
        "aborted",
        sync=False,
    ),
)


@dataclass
class Seen:
    """A request that arrived."""

    at: float
    method: str
    path: str
    headers: Mapping[str, str]


class ScriptedService:
    """Serves every row under a path of its own, and keeps what arrived."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: dict[str, list[Seen]] = {}
        self._scripts: dict[str, tuple[Behavior, list[Reply]]] = {}

    def start(self, behavior: Behavior, name: str) -> str:
        """The base URL for one run of a row."""
        self._scripts[name] = (behavior, list(behavior.replies))
        self.seen[name] = []
        return f"http://127.0.0.1:{self.port}/{name}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *lines = head.split("\r\n")
        headers = {
            key.lower(): text for key, _, text in (line.partition(": ") for line in lines if line)
        }
        await self._read_body(reader, headers)
        method, target, _ = request.split(" ")
        name, _, rest = target[1:].partition("/")
        path = "/" + rest.removeprefix("api/v1/memory/")
        self.seen[name].append(Seen(asyncio.get_running_loop().time(), method, path, headers))
        _, script = self._scripts[name]
        reply = script.pop(0) if script else Reply(500, "The script has ended")
        if reply.status == -1:
            await reader.read()
        if reply.status <= 0:
            return False
        return await self._respond(writer, reply, path)

    async def _read_body(self, reader: asyncio.StreamReader, headers: Mapping[str, str]) -> None:
        await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("transfer-encoding") == "chunked":
            await reader.readuntil(b"0\r\n\r\n")

    async def _respond(self, writer: asyncio.StreamWriter, reply: Reply, path: str) -> bool:
        body = reply.text(path).encode()
        length = len(body) + (10 if reply.cut else 0)
        headers = {"content-type": "application/json", **reply.headers}
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        ending = "" if reply.status == 204 else f"content-length: {length}\r\n"
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{lines}{ending}\r\n".encode() + body)
        await writer.drain()
        return not reply.cut


@asynccontextmanager
async def scripted_service() -> AsyncIterator[ScriptedService]:
    service = ScriptedService()
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(service.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def check(behavior: Behavior, outcome: Mapping[str, Any], seen: Sequence[Seen]) -> None:
    """Raises AssertionError unless the outcome and the requests are the row's.

    outcome: `value`, or `error` (class, code) with `retry_after_seconds` and `request_id`.
    """
    if behavior.error is None:
        assert outcome.get("error") is None, outcome
        assert outcome.get("value") == behavior.value
    else:
        assert tuple(outcome["error"]) == behavior.error
        if behavior.retry_after_seconds is not None:
            assert outcome["retry_after_seconds"] == behavior.retry_after_seconds
        last = behavior.replies[-1].body if behavior.replies else None
        if isinstance(last, dict) and "request_id" in last:
            assert outcome["request_id"] == "request-7"
    assert len(seen) == behavior.requests, seen
    if behavior.paths:
        assert [request.path for request in seen] == list(behavior.paths)
    if behavior.one_key:
        keys = {request.headers.get("idempotency-key") for request in seen}
        assert len(keys) == 1
        assert None not in keys
    for name, text in behavior.headers.items():
        assert {request.headers.get(name) for request in seen} == {text}
    if behavior.pause_seconds_min:
        assert seen[1].at - seen[0].at >= behavior.pause_seconds_min
