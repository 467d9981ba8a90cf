"""`python -m benchmarks.far_provider`: a slow model provider, in a separate process.

An OpenAI-compatible service on a real socket that responds to each call after a fixed time. It
shares the cores with the measured processes, so it does little work: responses are prepared bytes,
every text gets the same vector, and only the head and the number of texts of a request are read.
GET /calls returns the number of calls.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys

import numpy as np
import uvloop

_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
_CONTENT = {
    "title": "A chat turn",
    "summary": "Somebody says something in a chat.",
    "tags": ["chat", "turn", "words"],
    "entities": [{"name": "Ada", "kind": "person"}],
    "dates": [],
    "importance": 0.5,
    "language": "en",
}


class FarProvider(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    calls = 0
    latency_seconds = 0.3
    vector = ""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head):
            return
        self._received = b""
        if head.startswith(b"GET"):
            self._send(str(FarProvider.calls).encode())
            return
        FarProvider.calls += 1
        response = _COMPLETION if b"/chat/completions " in head[:64] else _embeddings(body)
        loop = asyncio.get_running_loop()
        loop.call_later(FarProvider.latency_seconds, self._send, response)

    def _send(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(_HEAD.format(length=len(body)).encode() + body)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _embeddings(body: bytes) -> bytes:
    count = len(json.loads(body)["input"])
    items = ",".join(
        f'{{"object":"embedding","index":{n},"embedding":"{FarProvider.vector}"}}'
        for n in range(count)
    )
    usage = f'{{"prompt_tokens":{30 * count},"total_tokens":{30 * count}}}'
    return f'{{"object":"list","model":"m","data":[{items}],"usage":{usage}}}'.encode()


def _completion() -> bytes:
    message = {"role": "assistant", "content": json.dumps(_CONTENT), "refusal": None}
    response = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1_690, "completion_tokens": 184, "total_tokens": 1_874},
    }
    return json.dumps(response).encode()


_COMPLETION = _completion()


async def _serve(latency_seconds: float, dimension: int) -> None:
    FarProvider.latency_seconds = latency_seconds
    values = np.random.default_rng(7).normal(size=dimension)
    FarProvider.vector = base64.b64encode(values.astype("<f4").tobytes()).decode()
    server = await asyncio.get_running_loop().create_server(FarProvider, "127.0.0.1", 0)
    print(f"Listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    # Until the parent process closes our standard input.
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(float(sys.argv[1]), int(sys.argv[2])))
