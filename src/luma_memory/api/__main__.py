"""`python -m luma_memory.api`: run the API until SIGTERM, in one process or in several.

With `--listen-fd N` it is one of several, and N the socket that they share. With `--prepare` it
waits for its settings (`bootstrap.prepared_start`).
"""

from __future__ import annotations

import asyncio
import socket
import sys

import uvloop

import luma_memory.single_thread_blas  # noqa: F401 - before anything imports numpy
from luma_memory.api.agents import load_agents
from luma_memory.api.server import serve
from luma_memory.api.supervisor import LISTEN_OPTION, supervise
from luma_memory.bootstrap.prepared_start import is_prepared, receive_environment
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.providers.completion.extract.question import load_language_data
from luma_memory.settings import load_settings
from luma_memory.telemetry.logs import configure_logs


def main() -> int:
    if is_prepared(sys.argv):
        load_agents()
        load_language_data()
        if not receive_environment():
            return 0
    try:
        settings = load_settings()
        configure_logs(level=settings.log_level, json_lines=settings.log_format == "json")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if len(sys.argv) == 3 and sys.argv[1] == LISTEN_OPTION:
                shared = socket.socket(fileno=int(sys.argv[2]))
                runner.run(serve(settings, listening=shared))
            elif settings.api_processes > 1:
                runner.run(supervise(settings, "luma_memory.api"))
            else:
                runner.run(serve(settings))
    except LumaMemoryError as error:
        print(f"luma-memory serve: {error}", file=sys.stderr)  # noqa: T201 - before any log
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
