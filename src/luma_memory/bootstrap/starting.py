"""A process may start before its database, or in the middle of the database's restart."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from typing import Final

from luma_memory.bootstrap.database import ProcessKind
from luma_memory.bootstrap.service import Service, open_service
from luma_memory.domain.errors import StoreUnavailable
from luma_memory.settings import Settings
from luma_memory.telemetry.events import Notice
from luma_memory.telemetry.logs import log_event

_AGAIN_SECONDS: Final = 1.0


async def open_in_time(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    kind: ProcessKind,
    stop: asyncio.Event | None = None,
) -> Service | None:
    """The service, entered into `stack`; while PostgreSQL is away it is tried again.

    For MEMORY_DATABASE_WAIT_SECONDS, beside what a try itself takes. None: `stop` was set
    meanwhile. Raises StoreUnavailable when the time is over, and SetupError, which no waiting
    mends, at once.
    """
    ends = time.monotonic() + settings.database_wait_seconds
    is_told = False
    while True:
        try:
            service = await stack.enter_async_context(open_service(settings, kind=kind))
        except StoreUnavailable as error:
            if time.monotonic() >= ends:
                raise
            if not is_told:
                _tell(f"{error}; waiting for it, {settings.database_wait_seconds} s at most")
            is_told = True
        else:
            if is_told:
                _tell("PostgreSQL answers")
            return service
        if await _is_set_within(stop, _AGAIN_SECONDS):
            return None


async def _is_set_within(stop: asyncio.Event | None, seconds: float) -> bool:
    waited_for = stop or asyncio.Event()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(waited_for.wait(), seconds)
    return waited_for.is_set()


def _tell(text: str) -> None:
    log_event(Notice(text, severity="warning"))
