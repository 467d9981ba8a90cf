"""`python -m benchmarks.server`: the API, and one route more that is the limit of accepting.

The route parses the same body by the same model and the same strict parser, in the same process,
and answers at once: what is left to a request when the pipeline and the database cost nothing.
"""

from __future__ import annotations

import asyncio
import os
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
from luma_memory.api.strict_json import StrictJsonRoute
from luma_memory.bootstrap.service import Service
from luma_memory.pipeline.history.recording import HistoryRecorder
from luma_memory.protocol.base_path import BASE_PATH
from luma_memory.protocol.blocks import AcceptedBody, NewBlockBody
from luma_memory.settings import load_settings
from luma_memory.telemetry.history import HistoryCounts
from luma_memory.telemetry.logs import configure_logs

PARSE_PATH = "/benchmark/parse"
# Set: the process counts and stores no history, so that its cost is a difference.
WITHOUT_HISTORY = "BENCHMARK_WITHOUT_HISTORY"

router = APIRouter(prefix=BASE_PATH, route_class=StrictJsonRoute)


@router.post(
    PARSE_PATH, status_code=202, response_model=AcceptedBody, max_body_size=BLOCK_BYTES_MAX
)
async def parse_only(body: NewBlockBody) -> Response:
    """Answer like an accepted block, without storing any."""
    response = AcceptedBody(id=UUID(int=len(body.content)), job_id=1)
    return Response(response.model_dump_json(), 202, media_type="application/json")


def create_measured_app(service: Service) -> FastAPI:
    """The app as it is served, and the route beside its own."""
    app = create_app(service)
    app.include_router(router)
    return app


@contextmanager
def _without_history() -> Iterator[None]:
    async def start(_recorder: HistoryRecorder) -> None:
        pass

    def count(_counts: HistoryCounts, _event: object) -> None:
        pass

    with (
        patch.object(HistoryRecorder, "start", start),
        patch.object(HistoryCounts, "__call__", count),
    ):
        yield


def main() -> None:
    if os.environ.get(WITHOUT_HISTORY):
        with _without_history():
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
