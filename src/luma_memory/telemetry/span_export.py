"""Spans by OpenTelemetry: to a collector by OTLP over HTTP, to Langfuse, or to both.

A module of its own because importing its libraries takes about a second: `bootstrap` loads it only
where spans are exported. No global state of OpenTelemetry is set: a host application keeps its
own tracing.

Threads of the libraries send spans in batches from bounded queues: a receiver that does not accept
them loses spans and has no other effect.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from luma_memory.telemetry.spans import Kind, Parent, Span, Values

# How long a stopping process waits for its last spans to be delivered.
STOP_SECONDS: Final = 3.0
CONTENT_CHARACTERS_MAX: Final = 20_000
_WARN_AGAIN_SECONDS: Final = 300.0
_OWN_MODULES: Final = f"{__name__.partition('.')[0]}."
_LIBRARIES: Final = ("opentelemetry", "langfuse")
_KINDS: Final = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "consumer": trace.SpanKind.CONSUMER,
}
_PROPAGATOR: Final = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class LangfuseAccount:
    """The address of Langfuse and the keys to write there."""

    public_key: str
    secret_key: str
    base_url: str | None


class OpenTelemetrySpans:
    """`telemetry.spans.Recorder` over a tracer.

    shows_content: whether texts are recorded. expected: errors that are a valid result; spans that
    end with them are not marked as failed.
    """

    def __init__(
        self,
        tracer: trace.Tracer,
        *,
        shows_content: bool,
        expected: tuple[type[BaseException], ...],
    ) -> None:
        self._tracer = tracer
        self._shows_content = shows_content
        self._expected = expected

    def span(
        self,
        name: str,
        *,
        kind: Kind,
        parent: Parent,
        links: Sequence[str],
        values: Values,
        started_ns: int | None,
    ) -> _Recorded:
        above = context.get_current() if parent is None else _context_of(parent)
        started = self._tracer.start_span(
            name,
            context=above,
            kind=_KINDS[kind],
            attributes=_attributes(values),
            links=[trace.Link(linked) for linked in map(_span_context_of, links) if linked],
            start_time=started_ns,
        )
        return _Recorded(started, above, self._shows_content, self._expected)

    def current(self) -> Span:
        current = trace.get_current_span()
        return _Recorded(current, None, self._shows_content, self._expected)

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")


class _Recorded:
    """A span of OpenTelemetry as `telemetry.spans.Span`; entered, it is the current one."""

    __slots__ = ("_above", "_expected", "_shows_content", "_span", "_token")

    def __init__(
        self,
        span: trace.Span,
        above: context.Context | None,
        shows_content: bool,
        expected: tuple[type[BaseException], ...],
    ) -> None:
        self._span = span
        self._above = above
        self._shows_content = shows_content
        self._expected = expected

    def __enter__(self) -> _Recorded:
        self._token = context.attach(trace.set_span_in_context(self._span, self._above))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.failed(error)
        context.detach(self._token)
        self._span.end()

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, values: Values) -> None:
        self._span.set_attributes(_attributes(values))

    def content(self, values: Callable[[], Values]) -> None:
        if self._shows_content and self._span.is_recording():
            texts = {name: str(text)[:CONTENT_CHARACTERS_MAX] for name, text in values().items()}
            self._span.set_attributes(texts)

    def failed(self, error: BaseException) -> None:
        kind = type(error)
        name = f"{kind.__module__}.{kind.__qualname__}"
        self._span.set_attribute("error.type", getattr(error, "code", None) or name)
        if isinstance(error, (asyncio.CancelledError, *self._expected)):
            return
        # Errors of libraries quote the text they failed on: only their type is recorded.
        description = str(error) if kind.__module__.startswith(_OWN_MODULES) else name
        self._span.set_status(trace.StatusCode.ERROR, description)


class Export:
    """The export of this process's spans, until it is stopped.

    warn: called with a sentence, at intervals, while spans cannot be delivered.
    Raises what the libraries raise for invalid values of their variables.
    """

    def __init__(
        self,
        *,
        service_name: str,
        version: str,
        to_collector: bool,
        langfuse: LangfuseAccount | None,
        shows_content: bool,
        expected: tuple[type[BaseException], ...],
        warn: Callable[[str], None],
    ) -> None:
        self._warnings = _LibraryWarnings(warn)
        self._warnings.listen()
        self._provider = TracerProvider(
            resource=_resource(service_name, version), shutdown_on_exit=False
        )
        self._langfuse: Any = None
        try:
            if to_collector:
                self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            if langfuse is not None:
                self._langfuse = _langfuse_client(langfuse, self._provider)
        except BaseException:
            self._provider.shutdown()
            self._warnings.unlisten()
            raise
        self.recorder = OpenTelemetrySpans(
            self._provider.get_tracer("luma_memory", version),
            shows_content=shows_content,
            expected=expected,
        )

    async def stop(self) -> None:
        """Send the queued spans, for STOP_SECONDS at most; the rest is lost."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            if self._langfuse is not None:
                self._langfuse.shutdown()
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:
                return  # the loop is closed by now

        # A daemon thread ends with the process: one of a pool would block its exit.
        threading.Thread(target=end, name="spans-stop", daemon=True).start()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await ended.wait()
        except TimeoutError:
            self._warnings.warn("the last ones were not delivered in time")
            return  # the libraries keep trying, and logging, until the process ends
        self._warnings.unlisten()


class _LibraryWarnings(logging.Handler):
    """Warnings of the libraries, replaced by one sentence at intervals.

    Their own messages repeat at every batch, and quote headers and responses, which may contain a
    key.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn
        self._warned_at: dict[str, float] = {}
        self._before: list[tuple[logging.Logger, bool]] = []

    def listen(self) -> None:
        for name in _LIBRARIES:
            logger = logging.getLogger(name)
            self._before.append((logger, logger.propagate))
            logger.propagate = False
            logger.addHandler(self)

    def unlisten(self) -> None:
        for logger, propagated in self._before:
            logger.propagate = propagated
            logger.removeHandler(self)
        self._before.clear()

    def emit(self, record: logging.LogRecord) -> None:
        # The libraries may log in any thread.
        self.warn(f"{record.name} reports a problem")

    def warn(self, what: str) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(what, float("-inf")) >= _WARN_AGAIN_SECONDS:
            self._warned_at[what] = now
            self._warn(f"Spans are being lost: {what}; the service runs without them")


def _resource(service_name: str, version: str) -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override the defaults."""
    given = Resource.create()
    own: dict[str, str] = {"service.version": version}
    if str(given.attributes["service.name"]).startswith("unknown_service"):
        given = given.merge(Resource({"service.name": service_name}))
    for name, variable in (
        ("langfuse.environment", "LANGFUSE_TRACING_ENVIRONMENT"),
        ("langfuse.release", "LANGFUSE_RELEASE"),
    ):
        if value := os.environ.get(variable):
            own[name] = value
    return Resource(own).merge(given)


def _langfuse_client(account: LangfuseAccount, provider: TracerProvider) -> Any:
    from langfuse import Langfuse  # takes another second, and few use it

    sampler = TraceIdRatioBased(float(os.environ.get("LANGFUSE_SAMPLE_RATE") or 1.0))

    def is_sampled(span: ReadableSpan) -> bool:
        # The client samples only with providers that it creates itself.
        known = span.get_span_context()
        if known is None:
            return False
        chosen = sampler.should_sample(None, known.trace_id, span.name)
        return chosen.decision is Decision.RECORD_AND_SAMPLE

    return Langfuse(
        public_key=account.public_key,
        secret_key=account.secret_key,
        base_url=account.base_url,
        tracer_provider=provider,
        should_export_span=is_sampled,
    )


def _context_of(traceparent: str) -> context.Context:
    """The context that a text encodes; an empty one, so a new trace, if it encodes none."""
    return _PROPAGATOR.extract({"traceparent": traceparent}, context=context.Context())


def _span_context_of(traceparent: str) -> trace.SpanContext | None:
    found = trace.get_current_span(_context_of(traceparent)).get_span_context()
    return found if found.is_valid else None


def _attributes(values: Values) -> dict[str, str | int | float | bool]:
    return {
        name: value if isinstance(value, str | int | float | bool) else str(value)
        for name, value in values.items()
        if value is not None
    }
