"""Export of spans to a collector and to Langfuse over real HTTP, including failing receivers."""

from __future__ import annotations

import asyncio
import base64
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.fakes.otlp_collector import OtlpCollector, SpanSeen
from tests.support.machine_load import within

from luma_memory.bootstrap.tracing import tracing
from luma_memory.domain.errors import Invalid, ProviderUnavailable
from luma_memory.settings import Settings
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Event

SECRET = "sk-lf-not-for-anybody-4711"
QUOTED = "what my diary says"


@pytest.fixture(autouse=True)
def exporters_have_ended() -> Iterator[None]:
    """A thread that still waits between two tries uses `random`, which other tests must own."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("OtelBatch"):
            thread.join(60)


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as running:
        yield running


def settings_for(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """As the process reads them, and as the libraries do."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings()


def langfuse(url: str) -> dict[str, str]:
    # A key of its own: the library keeps one client a key and process.
    return {
        "MEMORY_LANGFUSE_ENABLED": "true",
        "LANGFUSE_PUBLIC_KEY": f"pk-lf-{secrets.token_hex(4)}",
        "LANGFUSE_SECRET_KEY": SECRET,
        "LANGFUSE_BASE_URL": url,
    }


def named(seen: list[SpanSeen], name: str) -> SpanSeen:
    (span,) = [span for span in seen if span.name == name]
    return span


async def test_spans_have_their_parents_links_values_and_ends(
    collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    async with tracing(settings, "api", lambda _event: None):
        with spans.span("request", kind="server", parent=spans.NEW_TRACE) as api:
            carried = spans.traceparent()
            assert carried is not None
            api.set({"luma.block.id": 7, "absent": None})
            api.content(lambda: {"text": QUOTED})
        await asyncio.create_task(_elsewhere(carried))
        with pytest.raises(Invalid), spans.span("refused"):
            raise Invalid("That is not valid")
        with pytest.raises(ZeroDivisionError), spans.span("broken"):
            raise ZeroDivisionError(QUOTED)
    assert spans.current() is spans.NOTHING
    seen = collector.spans
    server_span, job = named(seen, "request"), named(seen, "job")
    assert (server_span.parent_id, server_span.attributes) == ("", {"luma.block.id": 7})
    assert (job.trace_id, job.parent_id) == (server_span.trace_id, server_span.span_id)
    assert named(seen, "step").parent_id == job.span_id
    shared = named(seen, "shared")
    assert shared.trace_id != job.trace_id
    assert shared.links == [server_span.span_id]
    assert named(seen, "refused").attributes == {"error.type": "invalid_request"}
    assert not named(seen, "refused").failed
    assert (job.failed, job.message) == (True, "The provider went away")
    # Foreign errors quote what they stumbled over.
    broken = named(seen, "broken")
    assert (broken.failed, broken.message) == (True, "builtins.ZeroDivisionError")
    assert {span.service for span in seen} == {"luma-memory-api"}
    assert all(QUOTED.encode() not in delivery.body for delivery in collector.deliveries)


async def _elsewhere(carried: str) -> None:
    with spans.span("job", kind="consumer", parent=carried) as job:
        with spans.span("step"):
            await asyncio.sleep(0)
        job.failed(ProviderUnavailable("The provider went away"))
    with spans.span("shared", parent="not a trace", links=[carried, "neither"]):
        pass


async def test_texts_are_sent_only_if_enabled_by_a_setting(
    collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(
        monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, MEMORY_TRACES_CONTENT="true"
    )
    async with tracing(settings, "worker", lambda _event: None):
        with spans.span("step") as step:
            step.content(lambda: {"text": QUOTED})
    assert named(collector.spans, "step").attributes == {"text": QUOTED}


async def test_langfuse_gets_the_same_spans(
    collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtlpCollector() as other:
        variables = langfuse(other.url) | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "LANGFUSE_TRACING_ENVIRONMENT": "staging",
        }
        async with tracing(settings_for(monkeypatch, **variables), "api", lambda _event: None):
            with spans.span("request"), spans.span("step"):
                pass
        ids = [{span.span_id for span in some.spans} for some in (collector, other)]
        (delivery,) = other.deliveries
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2
    assert delivery.path == "/api/public/otel/v1/traces"
    user = f"{variables['LANGFUSE_PUBLIC_KEY']}:{SECRET}"
    assert delivery.headers["authorization"] == (
        "Basic " + base64.b64encode(user.encode()).decode()
    )
    assert b"staging" in delivery.body
    assert all(SECRET.encode() not in sent.body for sent in collector.deliveries)


@pytest.mark.parametrize("missing", ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"])
async def test_missing_keys_are_reported_once_and_nothing_is_sent(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    with OtlpCollector() as other:
        variables = langfuse(other.url)
        del variables[missing]
        async with tracing(settings_for(monkeypatch, **variables), "api", events.append):
            assert not spans.is_on()
        assert not other.deliveries
    (notice,) = events
    assert (notice.level, missing in notice.message()) == ("warning", True)


@pytest.mark.parametrize("fault", ["refuses", "hangs", "away", "errors"])
async def test_a_failing_span_collector_has_no_effect(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    status = {"refuses": 401, "errors": 503}.get(fault, 200)
    with OtlpCollector(status=status, hangs=fault == "hangs") as other:
        url = "http://127.0.0.1:9" if fault == "away" else other.url
        variables = langfuse(url) | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}, {SECRET}",
        }
        settings = settings_for(monkeypatch, **variables)
        async with tracing(settings, "worker", events.append):
            started = time.monotonic()
            for _ in range(5_000):
                with spans.span("step"):
                    pass
            assert time.monotonic() - started < within(5)
            stopping = time.monotonic()
        assert time.monotonic() - stopping < within(5)
        assert not spans.is_on()
    messages = [event.message() for event in events]
    assert messages
    assert len(messages) == len(set(messages)) < 10
    assert SECRET not in " ".join(messages)


async def test_variables_that_make_no_sense_switch_tracing_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[Event] = []
    settings = settings_for(
        monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="-1"
    )
    async with tracing(settings, "api", events.append):
        with spans.span("step"):
            pass
    assert any("OTEL_" in event.message() for event in events)


async def test_open_telemetry_can_be_disabled_as_specified(
    collector: OtlpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(
        monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SDK_DISABLED="true"
    )
    async with tracing(settings, "api", _unexpected):
        assert not spans.is_on()


def _unexpected(event: Event) -> Any:
    raise AssertionError(event.message())
