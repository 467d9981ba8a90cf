"""Where the spans of a process are sent: nowhere by default."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from luma_memory import __version__
from luma_memory.domain.errors import ProviderPaused, RateLimited, RequestError
from luma_memory.domain.extras import missing_extra
from luma_memory.settings import Settings
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit, Notice

if TYPE_CHECKING:
    from luma_memory.telemetry.span_export import Export

# Expected results, not failures: alarms on failed spans keep their meaning.
EXPECTED = (RequestError, RateLimited, ProviderPaused)


@asynccontextmanager
async def tracing(settings: Settings, kind: str, emit: Emit) -> AsyncIterator[None]:
    """Record spans inside the `async with` block, if the settings name a destination.

    Any problem with tracing is logged, and the service runs without it.
    """
    export = _export(settings, kind, emit)
    if export is None:
        yield
        return
    spans.install(export.recorder)
    try:
        yield
    finally:
        spans.install(None)
        await export.stop()


def _export(settings: Settings, kind: str, emit: Emit) -> Export | None:
    def warn(text: str) -> None:
        emit(Notice(text, severity="warning"))

    to_collector = settings.otel_exporter_otlp_endpoint is not None
    account = _langfuse_account(settings, warn) if settings.langfuse_enabled else None
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if not to_collector and account is None:
        return None
    if to_collector and os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "") == "grpc":
        warn("OTEL_EXPORTER_OTLP_PROTOCOL is grpc; spans are sent by http/protobuf")
    # Loaded on demand: its libraries take a second to load, which a process without tracing avoids.
    try:
        from luma_memory.telemetry.span_export import Export, LangfuseAccount

        return Export(
            service_name=f"luma-memory-{kind}",
            version=__version__,
            to_collector=to_collector,
            langfuse=LangfuseAccount(*account) if account else None,
            shows_content=settings.traces_content,
            expected=EXPECTED,
            warn=warn,
        )
    except ModuleNotFoundError as error:
        warn(f"Tracing is off: {missing_extra(error)}")
        return None
    except Exception as error:  # raised by the libraries, about their own variables
        warn(
            "Tracing is off: one of the OTEL_* or LANGFUSE_* variables cannot be used"
            f" ({type(error).__name__})"
        )
        return None


def _langfuse_account(
    settings: Settings, warn: Callable[[str], None]
) -> tuple[str, str, str | None] | None:
    public, secret = settings.langfuse_public_key, settings.langfuse_secret_key
    if public is None or secret is None:
        warn(
            "MEMORY_LANGFUSE_ENABLED is true, but LANGFUSE_PUBLIC_KEY or LANGFUSE_SECRET_KEY is"
            " missing: nothing is sent to Langfuse"
        )
        return None
    return public.get_secret_value(), secret.get_secret_value(), settings.langfuse_base_url
