"""JSON posted to a service that speaks OpenAI's protocol, over one pool of connections.

The vendor's own library takes 3 ms of processor time per call, too much for a worker with fifty
concurrent calls; this takes 0.2. It has the guarantees of `http_client`: no redirect is followed,
no body larger than its cap is held, no compressed body is unpacked, one deadline covers the whole
call, nothing is retried.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from yarl import URL

from luma_memory import __version__
from luma_memory.domain.errors import SetupError
from luma_memory.domain.loopback import is_loopback
from luma_memory.providers.api_key import ApiKey, revealed
from luma_memory.providers.http_client import (
    CONNECT_SECONDS,
    ERROR_BODY_BYTES_MAX,
    KEEP_ALIVE_SECONDS,
    body_too_large,
    checked_base_url,
    compressed,
    is_compressed,
    redirected,
)
from luma_memory.providers.http_fault import HttpFaultError

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"
# Larger bodies are sent as a stream, which does not block the loop.
_BYTES_AT_ONCE_MAX: Final = 2**20


class ServiceClient:
    """One account at one service."""

    def __init__(
        self,
        *,
        api_key: ApiKey,
        base_url: str | None,
        timeout_seconds: float,
        body_bytes_max: int,
        connections_max: int = 256,
    ) -> None:
        """Opens no connection yet.

        base_url: None is OpenAI itself. api_key: None for a local service without keys.
        timeout_seconds: for a whole call, from the wait for a free connection to the last byte.
        body_bytes_max: of a response. The proxy variables of the environment apply, except for a
        service on this machine, which no proxy can reach.
        Raises SetupError for a key, an address or a proxy that cannot be used.
        """
        url = URL(str(checked_base_url(base_url or OPENAI_BASE_URL)))
        self._base = url.with_user(None)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": _authorization(url, api_key),
            "Content-Type": "application/json",
            "User-Agent": f"luma-memory/{__version__}",
        }
        self._proxy = _proxy_of(self._base)
        self._timeout_seconds = timeout_seconds
        self._body_bytes_max = body_bytes_max
        self._connections_max = connections_max
        self._opened: aiohttp.ClientSession | None = None

    @property
    def address(self) -> str:
        """Without a password."""
        return str(self._base)

    async def post(self, path: str, body: bytes, *, bytes_max: int | None = None) -> bytes:
        """The body of the response. path: below the base URL, without a leading slash. bytes_max:
        of this response, if less than usual is expected.

        Raises HttpFaultError for an error response, ProviderResponseInvalid for one that cannot be
        read, TimeoutError, and the HTTP library's own errors.
        """
        url = self._base.joinpath(path).with_query(self._base.query)
        data = body if len(body) <= _BYTES_AT_ONCE_MAX else BytesIO(body)
        async with (
            asyncio.timeout(self._timeout_seconds),
            self._session().post(
                url, data=data, headers=self._headers, allow_redirects=False, proxy=self._proxy
            ) as response,
        ):
            most = self._body_bytes_max
            return await _body_of(response, most if bytes_max is None else min(bytes_max, most))

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        if self._opened is not None:
            await self._opened.close()

    def _session(self) -> aiohttp.ClientSession:
        # Created at the first call: it belongs to the loop that runs then.
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections_max,
                    keepalive_timeout=KEEP_ALIVE_SECONDS,
                    ssl=_certificates() if self._base.scheme == "https" else True,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._opened


async def _body_of(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    if 300 <= response.status < 400:
        raise redirected(response.status)
    if is_compressed(response.headers.get("Content-Encoding")):
        raise compressed()
    if response.status >= 400:
        chunks, _ = await _read(response, ERROR_BODY_BYTES_MAX)
        raise HttpFaultError.of(response.status, b"".join(chunks), _lower(response.headers))
    if (response.content_length or 0) > bytes_max:
        raise body_too_large(bytes_max)
    chunks, is_whole = await _read(response, bytes_max)
    if not is_whole:
        # The error keeps this frame, and often lives until the garbage collector's next run: a
        # body per failed call would add up to many.
        chunks.clear()
        raise body_too_large(bytes_max)
    return b"".join(chunks)


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> tuple[list[bytes], bool]:
    """At most this much, and whether that is all; the rest is discarded with the connection."""
    chunks: list[bytes] = []
    left = bytes_max
    while chunk := await response.content.read(left + 1):
        chunks.append(chunk[:left])
        left -= len(chunk)
        if left < 0:
            return chunks, False
    return chunks, True


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _authorization(url: URL, api_key: ApiKey) -> str:
    """A name and password in the address belong to a gateway in front of the service."""
    if url.user is None:
        return f"Bearer {_sendable(api_key)}"
    pair = f"{url.user}:{url.password or ''}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _sendable(api_key: ApiKey) -> str:
    """The key as a header value; the HTTP library would quote an invalid one in its error."""
    key = revealed(api_key) or "no-key"
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise SetupError("The API key has characters that cannot be sent in an HTTP header.")
    return key


def _proxy_of(url: URL) -> URL | None:
    """Looked up once, because it searches the whole environment."""
    host = url.host or ""
    if is_loopback(host) or proxy_bypass(f"{host}:{url.port}"):
        return None
    proxies = getproxies()
    named = proxies.get(url.scheme) or proxies.get("all")
    if not named:
        return None
    proxy = URL(named if "://" in named else f"http://{named}")
    if proxy.scheme not in {"http", "https"} or not proxy.host:
        raise SetupError("The proxy of the environment must start with http:// or https://.")
    return proxy


@cache
def _certificates() -> ssl.SSLContext:
    """The certificates that the other HTTP clients trust, plus those named in the environment."""
    return httpx2.create_ssl_context()
