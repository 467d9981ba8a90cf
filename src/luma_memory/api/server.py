"""Serve the application: address checks, sockets, graceful shutdown."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

from fastapi import FastAPI

from luma_memory.api.app import create_app
from luma_memory.api.http_protocol import BoundedHttpProtocol
from luma_memory.bootstrap.http_server import Address, http_server
from luma_memory.bootstrap.service import Service
from luma_memory.bootstrap.starting import open_in_time
from luma_memory.domain.errors import SetupError
from luma_memory.domain.loopback import is_loopback
from luma_memory.settings import Settings
from luma_memory.telemetry.events import Notice
from luma_memory.telemetry.processes import collect_rarely, on_stop_signal

STOP_GRACE_SECONDS = 10


async def serve(
    settings: Settings,
    *,
    create: Callable[[Service], FastAPI] = create_app,
    listening: socket.socket | None = None,
) -> None:
    """Serve requests until a stop signal. Raises SetupError for an unusable address, and
    StoreUnavailable.

    create: creates the app over the open service; benchmarks add a route to it. listening: a socket
    that other processes share; None opens one.
    """
    own = Address(settings.host, settings.port) if listening is None else None
    async with AsyncExitStack() as stack:
        service = await open_in_time(stack, settings, kind="api")
        assert service is not None  # without a stop event, a signal ends the process
        await check_address(service)
        app = create(service)
        await stack.enter_async_context(app.router.lifespan_context(app))
        server = http_server(app, stop_seconds=STOP_GRACE_SECONDS, http=BoundedHttpProtocol)
        # Jobs of waiting requests belong to this process, so it registers like a worker.
        await service.presence.start(running=lambda: 0, on_signal=None)
        await service.keys.start()
        await service.history.start()

        def stop() -> None:
            app.state.stopping.set()  # open streams end
            server.should_exit = True

        on_stop_signal(
            stop,
            with_parent=settings.stop_with_parent,
            linger_seconds=settings.stop_with_parent_seconds,
        )
        collect_rarely()
        if own is not None:
            listening = own.listen()
        assert listening is not None
        listening.setblocking(False)
        await _announce(service, settings, listening)
        await server.serve(sockets=[listening])


async def check_address(service: Service) -> None:
    """Without keys, require a loopback address. Raises SetupError (code auth_required)."""
    host = service.settings.host
    if is_loopback(host) or not service.keys.required or await service.keys.has_any():
        return
    raise SetupError(
        f"There are no API keys, so {host} would be open to anyone who can reach it: create one"
        " with `luma-memory keys create`, set MEMORY_ADMIN_KEY, bind to 127.0.0.1, or set"
        " MEMORY_AUTH_DISABLED=true if a proxy in front of the service authenticates requests",
        code="auth_required",
    )


async def _announce(service: Service, settings: Settings, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    service.emit(Notice(f"Listening on http://{shown}:{port}"))
    if settings.auth_disabled:
        service.emit(Notice("Authentication is switched off", severity="warning"))
    elif await service.keys.is_open():
        service.emit(Notice("There are no API keys: any user of this machine has full access"))
