"""A collector of spans: OTLP over HTTP on a real loopback socket, as Langfuse has it too.

with OtlpCollector() as collector:
    ...  # point a process at collector.url
    collector.wait_for(lambda spans: any(span.name == "write back" for span in spans))
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_RETRY_SECONDS = 20.0


@dataclass(frozen=True)
class SpanSeen:
    """One span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str  # empty: it begins its trace
    service: str
    attributes: Mapping[str, Any]
    links: Sequence[str]  # span ids
    failed: bool
    message: str  # of its status


@dataclass(frozen=True)
class Delivery:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes  # unpacked


class OtlpCollector:
    """Takes spans while entered. status: what it answers; hangs: it reads and never answers."""

    def __init__(self, *, status: int = 200, hangs: bool = False) -> None:
        self.deliveries: list[Delivery] = []
        self.spans: list[SpanSeen] = []
        self._status = status
        self._released = threading.Event()
        if not hangs:
            self._released.set()
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def wait_for(self, reached: Callable[[Sequence[SpanSeen]], bool]) -> Sequence[SpanSeen]:
        with self._changed:
            if not self._changed.wait_for(lambda: reached(self.spans), _RETRY_SECONDS):
                raise TimeoutError(f"not all spans came: {sorted(s.name for s in self.spans)}")
            return list(self.spans)

    def wait_for_delivery(self) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self.deliveries, _RETRY_SECONDS):
                raise TimeoutError("nothing was sent")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, delivery: Delivery) -> None:
        found = list(_spans_of(delivery.body))
        with self._changed:
            self.deliveries.append(delivery)
            self.spans += found
            self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector._take(Delivery(self.path, headers, body))
                collector._released.wait()
                try:
                    self.send_response(collector._status)
                    self.send_header("content-length", "0")
                    self.end_headers()
                except ConnectionError:
                    return  # the other side did not wait

            def log_message(self, *_arguments: Any) -> None:
                return

        return Handler


def _spans_of(body: bytes) -> list[SpanSeen]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        SpanSeen(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            service=str(_values(of_process.resource.attributes).get("service.name")),
            attributes=_values(span.attributes),
            links=[link.span_id.hex() for link in span.links],
            failed=span.status.code == 2,
            message=span.status.message,
        )
        for of_process in request.resource_spans
        for of_library in of_process.scope_spans
        for span in of_library.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}
