"""uvicorn on the socket and event loop of the API or worker."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from luma_memory.domain.errors import SetupError

BACKLOG = 2048
# Longer than clients and load balancers keep an idle connection (5 s and 60 s are common): a server
# that closes it at the same moment resets the request that a client is just sending.
KEEP_ALIVE_SECONDS = 75


class HttpServer(uvicorn.Server):
    """A server that leaves signals to the process: uvicorn would raise them again before anything
    is closed. Ends when `should_exit` is set.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(app: Any, *, stop_seconds: int, **options: Any) -> HttpServer:
    """app: an ASGI application. stop_seconds: for open requests to end. options: of uvicorn."""
    return HttpServer(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=stop_seconds,
            server_header=False,
            **options,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; `::` accepts IPv4 as well if the system allows it. Raises OSError."""
    listening = _bound(host, port)
    try:
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def listen_at(host: str, port: int) -> socket.socket:
    """As `listen`. Raises SetupError (code address_unusable) with what to do."""
    try:
        return listen(host, port)
    except OSError as error:
        raise _unusable(host, port, error) from error


class Address:
    """An address that is taken before the service is open, and accepts connections afterwards.

    Until then a client is refused at once: in the socket's queue it would wait for the whole start.
    Raises SetupError (code address_unusable) with what to do.
    """

    def __init__(self, host: str, port: int) -> None:
        self._named = (host, port)
        try:
            self._socket = _bound(host, port)
        except OSError as error:
            raise _unusable(host, port, error) from error

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def listen(self) -> socket.socket:
        """Accept connections. Raises as the constructor, if another process was faster."""
        try:
            self._socket.listen(BACKLOG)
        except OSError as error:
            self._socket.close()
            raise _unusable(*self._named, error) from error
        return self._socket


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _unusable(host: str, port: int, error: OSError) -> SetupError:
    return SetupError(
        f"Cannot listen on {host}:{port}: {error.strerror}; {_remedy(error)}",
        code="address_unusable",
    )


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return "choose another port with --port or MEMORY_PORT"
    return "choose an address of this machine with --host or MEMORY_HOST"
