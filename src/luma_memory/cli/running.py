"""Run a command's coroutine. Ctrl-C and SIGTERM cancel it, so that it stops what it started."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

ResultT = TypeVar("ResultT")
TERMINATED_EXIT_CODE = 128 + signal.SIGTERM


def run_async(command: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The coroutine's result. SIGTERM cancels it, and the process exits with code 143."""
    terminated: list[bool] = []

    async def guarded() -> ResultT:
        task = asyncio.current_task()
        assert task is not None

        def terminate() -> None:
            terminated.append(True)
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        return await command

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if terminated:
            raise typer.Exit(TERMINATED_EXIT_CODE) from None
        raise


@contextmanager
def one_error() -> Iterator[None]:
    """Raise the first error of a task group instead of the group."""
    try:
        yield
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
