"""`python -m luma_memory.worker`: a worker until SIGTERM.

With `--prepare` it waits for its settings (`bootstrap.prepared_start`).
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

import uvloop

import luma_memory.single_thread_blas  # noqa: F401 - before anything imports numpy
from luma_memory.bootstrap.prepared_start import is_prepared, receive_environment
from luma_memory.bootstrap.service import Service
from luma_memory.bootstrap.starting import open_in_time
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.settings import Settings, load_settings
from luma_memory.telemetry.events import Notice
from luma_memory.telemetry.logs import configure_logs, log_event
from luma_memory.telemetry.processes import collect_rarely, on_stop_signal
from luma_memory.worker.probe import serve_probe
from luma_memory.worker.webhook_deliveries import DeliveryTimes, WebhookDeliveries
from luma_memory.worker.worker import Worker, WorkerTimes


async def work(settings: Settings) -> None:
    """Run a worker until a stop signal; returns once all its jobs are completed or released."""
    if not settings.worker_enabled:
        log_event(Notice("MEMORY_WORKER_ENABLED is false: this worker has nothing to do"))
        return
    stop = asyncio.Event()
    on_stop_signal(stop.set, with_parent=settings.stop_with_parent)
    async with AsyncExitStack() as stack:
        service = await open_in_time(stack, settings, kind="worker", stop=stop)
        if service is None:
            return
        await stack.enter_async_context(
            serve_probe(settings, service.metrics.registry, queue=service.queue, emit=service.emit)
        )
        await service.history.start()
        collect_rarely()
        await _worker(service).run(stop)


def main() -> int:
    # Embedding threads need the interpreter briefly between two texts; with the default switch
    # interval of 5 ms they idle while a block is enriched.
    sys.setswitchinterval(0.0005)
    if is_prepared(sys.argv) and not receive_environment():
        return 0
    try:
        settings = load_settings()
        configure_logs(level=settings.log_level, json_lines=settings.log_format == "json")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(settings))
    except LumaMemoryError as error:
        print(f"luma-memory worker: {error}", file=sys.stderr)  # noqa: T201 - before any log
        return 1
    return 0


def _worker(service: Service) -> Worker:
    settings = service.settings
    return Worker(
        service.queue,
        service.upkeep,
        service.runner,
        service.presence,
        backfill=service.backfill,
        reembedding=service.reembedding,
        claims_ahead=settings.has_completion_provider,
        concurrent_jobs_max=settings.worker_max_concurrent_jobs,
        times=WorkerTimes(
            lease=service.lease,
            poll=timedelta(milliseconds=settings.worker_poll_interval_ms),
            health=timedelta(milliseconds=settings.worker_health_check_interval_ms),
            keep_completed=timedelta(hours=settings.completed_job_retention_hours),
            keep_failed=timedelta(hours=settings.failed_job_retention_hours),
        ),
        clock=service.clock,
        emit=service.emit,
        webhooks=_webhook_deliveries(service),
    )


def _webhook_deliveries(service: Service) -> WebhookDeliveries:
    settings, deliveries = service.settings, service.deliveries
    return WebhookDeliveries(
        deliveries.queue,
        deliveries.store,
        deliveries.runner,
        deliveries.presence,
        times=DeliveryTimes(
            lease=deliveries.lease,
            poll=timedelta(milliseconds=settings.worker_poll_interval_ms),
            keep_events=timedelta(hours=settings.event_retention_hours),
        ),
        clock=service.clock,
        emit=service.emit,
    )


if __name__ == "__main__":
    raise SystemExit(main())
