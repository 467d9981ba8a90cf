"""Waiting no longer than one can afford, whatever is waited for."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def within(work: Awaitable[ResultT], seconds: float) -> ResultT:
    """The result of `work`, or its error; TimeoutError when it takes longer. Then it is cancelled.

    Not `asyncio.wait_for`: that also waits until a cancelled work has ended, and the database's
    driver asks a server that hangs to stop a statement (seen: 6 s with PostgreSQL stopped by
    SIGSTOP). Here a cancelled work ends when it will, and nobody waits for it.
    """
    task = work if isinstance(work, asyncio.Task) else asyncio.ensure_future(work)
    is_done = task.done()
    if not is_done:
        # What `asyncio.wait` does for any number of tasks, at a third of its price.
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        wake = functools.partial(_wake, woken)
        timer = loop.call_later(seconds, wake)
        task.add_done_callback(wake)
        try:
            await woken
        finally:
            timer.cancel()
            task.remove_done_callback(wake)
            is_done = task.done()
            if not is_done:
                task.add_done_callback(_forget)
                task.cancel()
    if not is_done:
        raise TimeoutError
    return task.result()


def _wake(woken: asyncio.Future[None], _task: asyncio.Future[ResultT] | None = None) -> None:
    if not woken.done():
        woken.set_result(None)


def _forget(task: asyncio.Future[ResultT]) -> None:
    """Look at a late error, so that it is not reported as one nobody asked for."""
    if not task.cancelled():
        task.exception()
