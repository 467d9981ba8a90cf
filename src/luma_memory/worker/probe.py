"""A worker's probe endpoints: liveness, metrics, and the age of the oldest pending job.

They expose no user data. The server runs in the worker's own event loop, so a response proves that
the loop is running.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from luma_memory.bootstrap.http_server import http_server, listen
from luma_memory.concurrency.deadline import within
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.ports.jobs import JobQueue
from luma_memory.settings import Settings
from luma_memory.telemetry.events import Emit, Notice
from luma_memory.telemetry.metrics import oldest_pending

_STOP_SECONDS = 1
_STATS_SECONDS_MAX = 2.0


@asynccontextmanager
async def serve_probe(
    settings: Settings, registry: CollectorRegistry, *, queue: JobQueue, emit: Emit
) -> AsyncIterator[None]:
    """Serve /health/live and /metrics inside the `async with` block, if a port is set.

    A port that cannot be used is logged, and the worker runs without the endpoints.
    """
    listening = _listen(settings, emit)
    if listening is None:
        yield
        return
    server = http_server(_app(registry, queue), stop_seconds=_STOP_SECONDS)
    server_task = asyncio.create_task(server.serve(sockets=[listening]), name="probe")
    try:
        yield
    finally:
        server.should_exit = True
        await server_task


def _listen(settings: Settings, emit: Emit) -> socket.socket | None:
    port, host = settings.worker_metrics_port, settings.worker_metrics_host
    if port is None:
        return None
    try:
        return listen(host, port)
    except OSError as error:
        text = (
            f"MEMORY_WORKER_METRICS_PORT {port} cannot be used on {host} ({error.strerror}): this"
            " worker runs without metrics"
        )
        emit(Notice(text, severity="warning"))
        return None


def _app(registry: CollectorRegistry, queue: JobQueue) -> Starlette:
    async def live(_request: Request) -> Response:
        return JSONResponse({"live": True})

    async def metrics(_request: Request) -> Response:
        queue_metrics = CollectorRegistry()
        with suppress(LumaMemoryError, TimeoutError):  # omitted while the database is unavailable
            stats = await within(queue.stats(), _STATS_SECONDS_MAX)
            oldest_pending(queue_metrics, stats.oldest_pending_seconds)
        body = generate_latest(registry) + generate_latest(queue_metrics)
        return Response(body, media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/health/live", live), Route("/metrics", metrics)])
