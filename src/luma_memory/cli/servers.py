"""`serve` and `worker`: each replaces this process, so that signals reach it directly."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from luma_memory.cli.commands import examples
from luma_memory.cli.environment import python_arguments, settings_environment
from luma_memory.cli.options import DataDir, Host, Port
from luma_memory.settings import Settings, load_settings

API_MODULE = "luma_memory.api"
WORKER_MODULE = "luma_memory.worker"


@examples(
    "luma-memory serve",
    "luma-memory serve --port 9000",
    "luma-memory serve --processes 4",
    "DATABASE_URL=postgresql://… luma-memory serve",
)
def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", metavar="N", help="API processes on the port (MEMORY_API_PROCESSES)."
        ),
    ] = None,
) -> None:
    """Run the API only, until SIGTERM or Ctrl-C.

    Without DATABASE_URL, processes with the same data directory share one embedded database.
    `luma-memory up` runs the whole service.
    """
    settings = load_settings(host=host, port=port, data_dir=data_dir, api_processes=processes)
    become(API_MODULE, settings)


@examples("luma-memory worker", "luma-memory worker --concurrency 20")
def worker(
    data_dir: DataDir = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            metavar="N",
            help="Concurrent jobs (MEMORY_WORKER_MAX_CONCURRENT_JOBS).",
        ),
    ] = None,
) -> None:
    """Run a worker only, until SIGTERM or Ctrl-C. Start as many workers as needed."""
    settings = load_settings(data_dir=data_dir, worker_max_concurrent_jobs=concurrency)
    become(WORKER_MODULE, settings)


def become(module: str, settings: Settings) -> NoReturn:
    """Replace this process. Settings go into the environment, which no process list shows."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, python_arguments(module), settings_environment(settings))  # noqa: S606
