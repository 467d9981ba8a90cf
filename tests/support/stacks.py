"""Running services for tests: API and workers on a database of the test process's own server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from tests.support.partitions import chosen_partitions
from tests.support.postgres_majors import NEWEST
from tests.support.servers import Servers

from luma_memory.cli.child import LineSink
from luma_memory.cli.processes import Stack
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.settings import load_settings

Opened = TypeVar("Opened")


def _discard(_name: str, _line: str) -> None:
    """A sink that drops every line."""


@asynccontextmanager
async def running_service(
    servers: Servers,
    *,
    workers: int = 1,
    spare: bool = False,
    on_line: LineSink = _discard,
    **overrides: Any,
) -> AsyncIterator[Stack]:
    """A ready service on a new database that has the schema. overrides: fields of Settings.

    Starts much faster than `running_stack`, which makes a PostgreSQL server of its own: that is
    for tests of the embedded database and for those that break their database.
    """
    template = await servers.template(NEWEST, partitions=chosen_partitions())
    async with servers.fresh(NEWEST, template=template) as dsn:
        overrides = {"host": "127.0.0.1", "port": 0, "database_url": dsn} | overrides
        settings = load_settings(**overrides)
        stack = Stack(settings, workers=workers, spare=spare, on_line=on_line)
        await stack.start()
        try:
            yield stack
        except LumaMemoryError:
            stack.check()  # the exit of a child explains more
            raise
        finally:
            await stack.stop()


@contextmanager
def kept_open(open_: Callable[[], AbstractAsyncContextManager[Opened]]) -> Iterator[Opened]:
    """Keep an asynchronous context open in a thread with an event loop of its own.

    For a service that outlives the event loops of the modules that use it. Await nothing of it
    in another loop: use its address and its process ids only.
    """
    opened: Future[tuple[Opened, Callable[[], object]]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_hold(open_, opened)), name="held open")
    thread.start()
    try:
        value, close = opened.result()
        try:
            yield value
        finally:
            close()
    finally:
        thread.join()


async def _hold(
    open_: Callable[[], AbstractAsyncContextManager[Opened]],
    opened: Future[tuple[Opened, Callable[[], object]]],
) -> None:
    loop, closing = asyncio.get_running_loop(), asyncio.Event()
    try:
        async with open_() as value:
            opened.set_result((value, lambda: loop.call_soon_threadsafe(closing.set)))
            await closing.wait()
    except BaseException as error:
        if opened.done():
            raise
        opened.set_exception(error)
