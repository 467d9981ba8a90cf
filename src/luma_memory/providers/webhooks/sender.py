"""One request to a receiver, with nothing it does left unbounded.

The address is checked where the socket is made, after the name was resolved: what is checked is
what is connected to, whatever the name resolves to a moment later. Redirects are not followed,
proxies of the environment are not used, and at most RESPONSE_BYTES_MAX of a response are read.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from luma_memory import __version__
from luma_memory.concurrency.retry_after import stated_seconds
from luma_memory.domain.webhook import Response
from luma_memory.providers.webhooks.addresses import is_public

RESPONSE_BYTES_MAX: Final = 16 * 1024
CONNECT_SECONDS_MAX: Final = 10.0
# Of names: more than there are webhooks delivered to at once, because a lookup cannot be stopped.
_LOOKUPS_MAX: Final = 128
# Shorter than the idle timeout of common load balancers.
_KEEP_ALIVE_SECONDS: Final = 15.0
_USER_AGENT: Final = f"luma-memory/{__version__}"
# Of an error's text: it may be shown to the owner of the webhook.
_ERROR_CHARACTERS_MAX: Final = 300
NOT_ALLOWED: Final = "the address of the receiver is not public"


class _AddressRefusedError(OSError):
    """No connection was made."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, NOT_ALLOWED)


class HttpWebhookSender:
    """`ports.webhooks.WebhookSender` over aiohttp. timeout_seconds: of one request as a whole."""

    def __init__(self, *, timeout_seconds: float, allow_private: bool) -> None:
        self._timeout_seconds = timeout_seconds
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None
        self._names = _Names()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Idempotent; harmless before the first request."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._names.close()

    async def send(self, url: str, *, body: bytes, headers: dict[str, str]) -> Response:
        try:
            # A deadline of its own: a receiver that drips bytes stays below every other one.
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(url, body, headers)
        except TimeoutError:
            return Response(None, f"no response within {self._timeout_seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Response(None, _reason(error))

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Response:
        async with self._opened().post(
            url,
            data=body,
            headers={"Content-Type": "application/json", "User-Agent": _USER_AGENT, **headers},
            allow_redirects=False,
        ) as response:
            status = response.status
            wait = stated_seconds(response.headers)
            with suppress(aiohttp.ClientError):
                await _drain(response)
            if 200 <= status < 300:
                return Response(status)
            return Response(status, f"the receiver responded {status}", wait)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # webhooks bound their own concurrency
                    use_dns_cache=False,
                    resolver=self._names,
                    keepalive_timeout=_KEEP_ALIVE_SECONDS,
                    socket_factory=self._socket,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=min(CONNECT_SECONDS_MAX, self._timeout_seconds)
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=16_384,
                max_field_size=16_384,
            )
        return self._session

    def _socket(self, address: Any) -> socket.socket:
        family, kind, protocol, _, name = address
        if not self._allow_private and not is_public(str(name[0])):
            raise _AddressRefusedError
        return socket.socket(family=family, type=kind, proto=protocol)


class _Names(AbstractResolver):
    """Resolves names in threads of its own: a name server that does not respond occupies one for
    each name, and none that other work of the process waits for."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._running: dict[tuple[str, int, int], asyncio.Future[Any]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        key = host, port, int(family)
        if (running := self._running.get(key)) is None:
            running = self._running[key] = self._begun(host, port, family)
            running.add_done_callback(lambda _: self._running.pop(key, None))
        found = await asyncio.shield(running)
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    def _begun(self, host: str, port: int, family: int) -> asyncio.Future[Any]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_LOOKUPS_MAX, "webhook-names")
        look_up = partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        return asyncio.get_running_loop().run_in_executor(self._threads, look_up)

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """A short body is read, so that the connection can be used again; a long one closes it."""
    left = RESPONSE_BYTES_MAX
    while left > 0:
        chunk = await response.content.read(left)
        if not chunk:
            return
        left -= len(chunk)
    response.close()


def _reason(error: BaseException) -> str:
    cause = getattr(error, "os_error", None) or error
    if isinstance(cause, OSError) and cause.errno == errno.EACCES:
        return NOT_ALLOWED
    text = getattr(cause, "strerror", None) or str(cause)
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[
        :_ERROR_CHARACTERS_MAX
    ]
