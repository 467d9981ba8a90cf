"""Start a process before its database, or while the database restarts."""

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

_RETRY_SECONDS: Final = 1.0


async def open_in_time(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    kind: ProcessKind,
    stop: asyncio.Event | None = None,
) -> Service | None:
    """The service, entered into `stack`; retried while PostgreSQL is unavailable.

    Retries for MEMORY_DATABASE_WAIT_SECONDS, plus the time of the last attempt. None: `stop` was
    set meanwhile. Raises StoreUnavailable after that time, and SetupError, which waiting cannot
    resolve, immediately.
    """
    deadline = time.monotonic() + settings.database_wait_seconds
    is_logged = False
    while True:
        try:
            service = await stack.enter_async_context(open_service(settings, kind=kind))
        except StoreUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            if not is_logged:
                _log(f"{error}; waiting up to {settings.database_wait_seconds} s for it")
            is_logged = True
        else:
            if is_logged:
                _log("PostgreSQL is available")
            return service
        if await _is_set_within(stop, _RETRY_SECONDS):
            return None


async def _is_set_within(stop: asyncio.Event | None, seconds: float) -> bool:
    waited_for = stop or asyncio.Event()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(waited_for.wait(), seconds)
    return waited_for.is_set()


def _log(text: str) -> None:
    log_event(Notice(text, severity="warning"))
