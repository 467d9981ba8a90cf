"""`python -m benchmarks.queues.worker QUEUE EVERY`: one worker of a queue, until SIGTERM.

It works on DATABASE_URL and prints every EVERYth call of its handler.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

import uvloop

from benchmarks.queues import ours, pgqueuer, procrastinate
from benchmarks.queues.handled import Handled
from luma_memory.telemetry.logs import configure_logs
from luma_memory.telemetry.processes import collect_rarely, on_stop_signal

WORKERS: Mapping[str, Callable[[str, Handled, asyncio.Event], Awaitable[None]]] = {
    ours.OurQueue.name: ours.work,
    pgqueuer.PgQueuerQueue.name: pgqueuer.work,
    procrastinate.ProcrastinateQueue.name: procrastinate.work,
}


async def _work(name: str, every: int) -> None:
    stop = asyncio.Event()
    on_stop_signal(stop.set, with_parent=True)
    collect_rarely()
    await WORKERS[name](os.environ["DATABASE_URL"], Handled(every), stop)


def main() -> None:
    configure_logs(level="warning", json_lines=False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
