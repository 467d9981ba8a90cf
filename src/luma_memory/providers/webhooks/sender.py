"""One request to a receiver, with nothing it does left unbounded.

The address is checked where the socket is made, after the name was resolved: what is checked is
what is connected to, whatever the name resolves to a moment later. Redirects are not followed,
proxies of the environment are not used, and at most RESPONSE_BYTES_MAX of a response are read.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from luma_memory import __version__
from luma_memory.concurrency.retry_after import stated_seconds
from luma_memory.domain.webhook import Response
from luma_memory.providers.webhooks.addresses import is_public

RESPONSE_BYTES_MAX: Final = 16 * 1024
CONNECT_SECONDS_MAX: Final = 10.0
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
