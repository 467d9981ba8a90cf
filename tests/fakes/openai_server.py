"""An OpenAI-compatible server whose faults can be scripted: real HTTP on a real loopback socket.

    with FakeOpenAI() as server:
        server.script(rate_limited(seconds=7), reset())  # the next two calls, in this order
        ...  # point a client at server.base_url

Calls beyond the script get a valid response. The server runs in a thread with its own event loop,
so it serves the test's loop, other threads and other processes, and keeps running while they hang.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np

PROMPT_TOKENS = 120
COMPLETION_TOKENS = 40
_RETRY_SECONDS = 20.0


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]  # lower-case names
    body: Any

    def speaks_of(self, marker: str) -> bool:
        """Whether the text of a block, or one of the texts, holds it."""
        if self.path.endswith("/embeddings"):
            return any(marker in text for text in self.body["input"])
        return marker in self.body["messages"][-1]["content"]


@dataclass(frozen=True)
class Exchange:
    """One call and the socket its answer goes to."""

    call: Call
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: FakeOpenAI

    async def send(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.writer.write(
            _head(status, {"content-length": str(len(body)), **(headers or {})}) + body
        )
        await self.writer.drain()


Reply = Callable[[Exchange], Awaitable[None]]


@dataclass
class FakeOpenAI:
    """Serves POST {base_url}/chat/completions and POST {base_url}/embeddings while entered."""

    dimension: int = 8
    calls: list[Call] = field(default_factory=list)
    base_url: str = ""
    open_connections: int = 0

    def __post_init__(self) -> None:
        self._script: deque[Reply] = deque()
        self._always: Reply | None = None
        self._changed = threading.Condition()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fake-openai", daemon=True)
        self._ready = threading.Event()

    def script(self, *replies: Reply) -> None:
        """What the next calls get, one each."""
        self._script.extend(replies)

    def always(self, reply: Reply | None) -> None:
        """What every call beyond the script gets; None is a good answer."""
        self._always = reply

    def wait_for_calls(self, count: int) -> None:
        self._wait(lambda: len(self.calls) >= count, f"{count} calls")

    def wait_until_disconnected(self) -> None:
        self._wait(lambda: self.open_connections == 0, "every connection closed")

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        if not self._ready.wait(_RETRY_SECONDS):
            raise TimeoutError("the fake server did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_RETRY_SECONDS)

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(reached, timeout=_RETRY_SECONDS):
                raise TimeoutError(f"the fake server did not see: {what}")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count_connection(+1)
        try:
            while not writer.is_closing():
                call = await _read_call(reader)
                reply = self._next_reply(call)
                await reply(Exchange(call, reader, writer, self))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.close()
            self._count_connection(-1)

    def _next_reply(self, call: Call) -> Reply:
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
        return self._script.popleft() if self._script else self._always or well()

    def _count_connection(self, change: int) -> None:
        with self._changed:
            self.open_connections += change
            self._changed.notify_all()


async def _read_call(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Call(request_line.split(" ")[1], headers, json.loads(body) if body else None)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Scripted",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_JSON = {"content-type": "application/json"}


# Whole answers


def well() -> Reply:
    """The answer a healthy service gives."""

    async def reply(exchange: Exchange) -> None:
        path = exchange.call.path
        if path.endswith("/rerank"):
            await ranking()(exchange)
            return
        handler = vectors() if path.endswith("/embeddings") else completion()
        await handler(exchange)

    return reply


def ranking(*, favored: str = "") -> Reply:
    """A rerank response like Cohere's: texts with `favored`, or many query terms, rank first."""

    async def reply(exchange: Exchange) -> None:
        body = exchange.call.body
        words = set(body["query"].lower().split())
        scores = [
            2.0 if favored and favored in text else len(words & set(text.lower().split())) / 100
            for text in body["documents"]
        ]
        results = [{"index": n, "relevance_score": score} for n, score in enumerate(scores)]
        results.sort(key=lambda result: -result["relevance_score"])
        await respond_with(200, {"id": "r1", "results": results, "meta": {}})(exchange)

    return reply


def late(seconds: float, then: Reply | None = None) -> Reply:
    async def reply(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await (then or well())(exchange)

    return reply


def respond_with(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    """Bytes and text as they stand, anything else as JSON."""
    raw = body.encode() if isinstance(body, str) else body
    payload = raw if isinstance(raw, bytes) else json.dumps(raw).encode()

    async def reply(exchange: Exchange) -> None:
        await exchange.send(status, payload, {**_JSON, **(headers or {})})

    return reply


def error(
    status: int,
    *,
    code: str | None = None,
    kind: str | None = None,
    message: str = "scripted failure",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """An error in OpenAI's form."""
    body = {"error": {"message": message, "type": kind, "code": code, "param": None}}
    return respond_with(status, body, headers)


def html(status: int) -> Reply:
    """An error page as proxies in front of a service return it."""
    page = f"<html><body><h1>{status}</h1>{'padding ' * 500}</body></html>"
    return respond_with(status, page, {"content-type": "text/html"})


def rate_limited(*, seconds: object = None) -> Reply:
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    return error(429, code="rate_limit_exceeded", kind="requests", headers=headers)


def out_of_money() -> Reply:
    return error(429, code="insufficient_quota", kind="insufficient_quota")


def redirect(location: str, status: int = 307) -> Reply:
    return respond_with(status, "", {"Location": location})


def only_for(marker: str, fault: Reply, *, step: str) -> Reply:
    """`fault` for calls that speak of the marker, a good answer for all others.

    step: "completions" or "embeddings", the end of the path.
    """

    async def reply(exchange: Exchange) -> None:
        is_meant = exchange.call.path.endswith(step) and exchange.call.speaks_of(marker)
        await (fault if is_meant else well())(exchange)

    return reply


# Broken connections


def reset() -> Reply:
    """The connection is torn down after the request was read."""

    async def reply(exchange: Exchange) -> None:
        # Lingering for 0 s makes closing send RST and not FIN.
        sock = exchange.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        exchange.writer.close()

    return reply


def cut_body() -> Reply:
    """A body that ends before its declared length."""

    async def reply(exchange: Exchange) -> None:
        head = _head(200, {**_JSON, "content-length": "4096"})
        exchange.writer.write(head + b'{"id": "cut", "choices": [')
        await exchange.writer.drain()
        exchange.writer.close()

    return reply


def hang() -> Reply:
    """Silence until the client leaves."""

    async def reply(exchange: Exchange) -> None:
        await exchange.reader.read()
        exchange.writer.close()

    return reply


def drip(pause_seconds: float) -> Reply:
    """One byte of the body at a time, without an end."""

    async def reply(exchange: Exchange) -> None:
        exchange.writer.write(_head(200, {**_JSON, "content-length": "1000000"}))
        while not exchange.writer.is_closing():
            exchange.writer.write(b" ")
            await exchange.writer.drain()
            await asyncio.sleep(pause_seconds)

    return reply


def huge(size_bytes: int, *, status: int = 200, declared: bool = False) -> Reply:
    """A body of that size: in chunks that do not say it, or with its length declared."""

    async def reply(exchange: Exchange) -> None:
        length = (
            {"content-length": str(size_bytes)} if declared else {"transfer-encoding": "chunked"}
        )
        exchange.writer.write(_head(status, {**_JSON, **length}))
        block = b" " * 65536
        chunk = block if declared else b"%x\r\n%s\r\n" % (len(block), block)
        for _ in range(size_bytes // len(block)):
            exchange.writer.write(chunk)
            await exchange.writer.drain()
        exchange.writer.close()

    return reply


# Completions


def completion(
    content: object = ...,
    *,
    refusal: str | None = None,
    finish_reason: str = "stop",
    usage: object = ...,
) -> Reply:
    """A chat completion. content: text as it stands or an object as JSON; unset, a fitting one."""

    async def reply(exchange: Exchange) -> None:
        given = _fitting_content(exchange.call.body) if content is ... else content
        text = given if given is None or isinstance(given, str) else json.dumps(given)
        body = _completion_body(exchange.call.body, text, refusal, finish_reason, usage)
        await exchange.send(200, json.dumps(body).encode(), _JSON)

    return reply


def _fitting_content(body: Any) -> dict[str, Any]:
    """An enrichment of the requested block, or a context of the blocks given."""
    request = json.loads(body["messages"][-1]["content"])
    if "question" in request:
        return synthesis_content(*((block["text"], [block["n"]]) for block in request["blocks"]))
    return enrichment_content(title=request["text"][:40], summary=request["text"][:200])


def synthesis_content(*statements: tuple[str, list[int]]) -> dict[str, Any]:
    return {"statements": [{"text": text, "blocks": blocks} for text, blocks in statements]}


def enrichment_content(**changes: Any) -> dict[str, Any]:
    return {
        "title": "A title",
        "summary": "A summary.",
        "tags": ["scripted"],
        "entities": [{"name": "Ada", "kind": "person"}],
        "dates": [],
        "importance": 0.5,
        "language": "en",
    } | changes


def _completion_body(
    request: Any, text: str | None, refusal: str | None, finish_reason: str, usage: object
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": refusal}
    if tools := request.get("tools"):
        function = {"name": tools[0]["function"]["name"], "arguments": text}
        message["content"] = None
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    counted = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": COMPLETION_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    }
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": counted if usage is ... else usage,
    }


# Embeddings

Items = list[dict[str, Any]]


def vectors(
    change: Callable[[Items], Items] | None = None, *, decimal: bool = False, usage: object = ...
) -> Reply:
    """One vector per text: numbers if requested or `decimal`, else base64; `change` may corrupt it.

    `change` gets the items with their vectors still as lists of numbers.
    """

    async def reply(exchange: Exchange) -> None:
        body = exchange.call.body
        dimension = body.get("dimensions") or exchange.server.dimension
        items: Items = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, dimension)}
            for index, text in enumerate(body["input"])
        ]
        items = change(items) if change else items
        if body.get("encoding_format") == "base64" and not decimal:
            items = [{**item, "embedding": _base64(item["embedding"])} for item in items]
        tokens = sum(len(text.split()) for text in body["input"])
        counted = {"prompt_tokens": tokens, "total_tokens": tokens}
        response = {
            "object": "list",
            "data": items,
            "model": body["model"],
            "usage": counted if usage is ... else usage,
        }
        await exchange.send(200, json.dumps(response).encode(), _JSON)

    return reply


def vector_of(text: str, dimension: int) -> list[float]:
    """The text's own direction, always the same; not of unit length, as some services send them."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    drawn: list[float] = np.random.default_rng(seed).normal(size=dimension).tolist()
    return drawn


def _base64(values: list[float]) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode("ascii")
