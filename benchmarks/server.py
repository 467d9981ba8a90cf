"""`python -m benchmarks.server`: the API, and two routes more: the limit of accepting, and times.

The first parses the same body by the same model and the same strict parser, in the same process,
and answers at once: what is left to a request when the pipeline and the database cost nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch
from uuid import UUID

import uvloop
from fastapi import APIRouter, FastAPI, Response

from benchmarks.plain import WITHOUT_PARTS, without_parts
from luma_memory.api.app import create_app
from luma_memory.api.routes.blocks import BLOCK_BYTES_MAX
from luma_memory.api.server import serve
from luma_memory.api.services import ServiceDep
from luma_memory.api.strict_json import StrictJsonRoute
from luma_memory.bootstrap.service import Service
from luma_memory.protocol.base_path import BASE_PATH
from luma_memory.protocol.blocks import AcceptedBody, NewBlockBody
from luma_memory.settings import load_settings
from luma_memory.telemetry.events import Event
from luma_memory.telemetry.history import HistoryCounts
from luma_memory.telemetry.logs import configure_logs

PARSE_PATH = "/benchmark/parse"
HISTORY_PATH = "/benchmark/history"
# Set: the process measures how much of its time history takes.
HISTORY_TIMES = "BENCHMARK_HISTORY_TIMES"

router = APIRouter(prefix=BASE_PATH, route_class=StrictJsonRoute)


@router.post(
    PARSE_PATH, status_code=202, response_model=AcceptedBody, max_body_size=BLOCK_BYTES_MAX
)
async def parse_only(body: NewBlockBody) -> Response:
    """Answer like an accepted block, without storing any."""
    response = AcceptedBody(id=UUID(int=len(body.content)), job_id=1)
    return Response(response.model_dump_json(), 202, media_type="application/json")


def create_measured_app(service: Service) -> FastAPI:
    """The app as it is served, and the routes beside its own."""
    app = create_app(service)
    app.include_router(router)
    return app


@router.get(HISTORY_PATH)
async def store_history(service: ServiceDep) -> dict[str, float]:
    """Store what was counted. Processor seconds of this process and of its counting until then."""
    spent = {"process_seconds": time.process_time(), "counting_seconds": _counting.seconds}
    await service.history.store()
    return spent


class _Counting:
    """Counts for the history, and the processor seconds that it took.

    Reading the clock is part of them: a few tenths of a microsecond a request.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        counted = HistoryCounts.__call__

        def count(counts: HistoryCounts, event: Event) -> None:
            started = time.thread_time()
            counted(counts, event)
            self.seconds += time.thread_time() - started

        with patch.object(HistoryCounts, "__call__", count):
            yield


_counting = _Counting()


def main() -> None:
    if os.environ.get(HISTORY_TIMES):
        with _counting.measured():
            _serve()
    elif os.environ.get(WITHOUT_PARTS):
        with without_parts():
            _serve()
    else:
        _serve()


def _serve() -> None:
    settings = load_settings()
    configure_logs(level=settings.log_level, json_lines=settings.log_format == "json")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, create=create_measured_app))


if __name__ == "__main__":
    main()
