"""Worker processes of the queues, and the calls of their handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.figures import WrongResultError
from benchmarks.queues.databases import Opened
from benchmarks.queues.handled import Call, read_call
from benchmarks.stack import WAIT_SECONDS_MAX, check_running, child_process, waited_for
from luma_memory.cli.child import Child

PARTS = 10


class RunningWorker:
    """A worker process that prints its calls in order."""

    def __init__(self) -> None:
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        self.child: Child | None = None

    def read(self, _name: str, line: str) -> None:
        if (call := read_call(line)) is not None:
            self._calls.put_nowait(call)

    async def next_call(self) -> Call:
        """Raises WrongResultError when none comes, with the output of the worker."""
        try:
            return await asyncio.wait_for(self._calls.get(), WAIT_SECONDS_MAX)
        except TimeoutError as error:
            assert self.child is not None
            raise WrongResultError(f"no job came; {self.child.exit_report()}") from error


@asynccontextmanager
async def working(opened: Opened, *, every: int) -> AsyncIterator[RunningWorker]:
    """One worker of the queue that prints every `every`th call of its handler."""
    worker = RunningWorker()
    async with child_process(
        opened.name,
        "benchmarks.queues.worker",
        opened.dsn,
        {},
        worker.read,
        [opened.name, str(every)],
    ) as child:
        worker.child = child
        check_running(child)
        yield worker


async def drained(opened: Opened, jobs: int) -> float:
    """Jobs a second of one worker, from the first tenth of them to the last.

    Raises WrongResultError when some are left although the handler was called for all.
    """
    queue, calls = opened.queue, []
    async with working(opened, every=jobs // PARTS) as worker:
        calls = [await worker.next_call() for _ in range(PARTS)]
        await waited_for(lambda: _none_left(opened))
    if await queue.open_jobs():
        raise WrongResultError(f"{opened.name} left jobs behind")
    first, last = calls[0], calls[-1]
    return (last.number - first.number) / (last.at_ns - first.at_ns) * 1e9


async def _none_left(opened: Opened) -> bool:
    return await opened.queue.open_jobs() == 0
