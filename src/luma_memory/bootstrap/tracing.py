"""Where the spans of a process go: nowhere, unless settings say so."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from luma_memory import __version__
from luma_memory.domain.errors import ProviderPaused, RateLimited, RequestError
from luma_memory.settings import Settings
from luma_memory.telemetry import spans
from luma_memory.telemetry.events import Emit, Notice

# Answers, not faults: alarms that hang on failed spans keep their meaning.
EXPECTED = (RequestError, RateLimited, ProviderPaused)


@asynccontextmanager
async def tracing(settings: Settings, kind: str, emit: Emit) -> AsyncIterator[None]:
    """Record spans while the block runs, where settings name somebody who wants them.

    Whatever is wrong with that is told, and the service goes on without.
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


def _export(settings: Settings, kind: str, emit: Emit) -> Any:
    def tell(text: str) -> None:
        emit(Notice(text, severity="warning"))

    to_collector = settings.otel_exporter_otlp_endpoint is not None
    account = _langfuse_account(settings, tell) if settings.langfuse_enabled else None
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if not to_collector and account is None:
        return None
    if to_collector and os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "") == "grpc":
        tell("OTEL_EXPORTER_OTLP_PROTOCOL is grpc; spans are sent by http/protobuf all the same")
    # Loaded on demand: its libraries cost a second that a process without tracing need not pay.
    module: Any = import_module("luma_memory.telemetry.span_export")
    try:
        return module.Export(
            service_name=f"luma-memory-{kind}",
            version=__version__,
            to_collector=to_collector,
            langfuse=module.LangfuseAccount(*account) if account else None,
            shows_content=settings.traces_content,
            expected=EXPECTED,
            tell=tell,
        )
    except Exception as error:  # of libraries, about variables of theirs
        tell(
            "Tracing is off: one of the OTEL_* or LANGFUSE_* variables cannot be used"
            f" ({type(error).__name__})"
        )
        return None


def _langfuse_account(settings: Settings, tell: Any) -> tuple[str, str, str | None] | None:
    public, secret = settings.langfuse_public_key, settings.langfuse_secret_key
    if public is None or secret is None:
        tell(
            "MEMORY_LANGFUSE_ENABLED is true, but LANGFUSE_PUBLIC_KEY or LANGFUSE_SECRET_KEY is"
            " missing: nothing is sent to Langfuse"
        )
        return None
    return public.get_secret_value(), secret.get_secret_value(), settings.langfuse_base_url
