"""The HTTP client for all remote services except those with OpenAI's protocol (see
`service_client`).

Guarantees for any response: no redirect is followed, no body larger than its cap is held in memory,
no compressed body is unpacked, and each wait for bytes is bounded. Retries are the queue's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import httpx2

from luma_memory.domain.errors import ProviderResponseInvalid, SetupError
from luma_memory.domain.loopback import is_loopback

CONNECT_SECONDS: Final = 5.0
# An error's body is only read for its code; providers say that in the first few hundred bytes.
ERROR_BODY_BYTES_MAX: Final = 64 * 1024
# Shorter than the idle timeout of common load balancers, so that a pooled connection is not reused
# at the moment the peer closes it.
KEEP_ALIVE_SECONDS: Final = 15.0


def provider_http_client(
    base_url: str,
    *,
    timeout_seconds: float,
    body_bytes_max: int,
    connections_max: int = 100,
) -> httpx2.AsyncClient:
    """A client for one provider; the caller closes it.

    timeout_seconds: bounds each single wait for bytes or for a free connection; a slow trickle
    stays below it, so callers put their own deadline over the whole call. The proxy and certificate
    variables of the environment apply (many installations need a proxy to reach a provider), except
    for a provider on this machine, which no proxy can reach. Raises SetupError for a base URL that
    is not an http(s) address.
    """
    url = checked_base_url(base_url)
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
        limits=httpx2.Limits(
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
        ),
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [_ResponseGuard(body_bytes_max)]},
        follow_redirects=False,
        trust_env=not is_loopback(url.host),
    )


def checked_base_url(base_url: str) -> httpx2.URL:
    """The parsed address. Its text is not repeated in the error: it may hold a password."""
    try:
        url = httpx2.URL(base_url.strip())
    except httpx2.InvalidURL as error:
        raise SetupError("The provider's base URL cannot be read.") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise SetupError("The provider's base URL must start with http:// or https:// and a host.")
    return url


class _ResponseGuard:
    """Checks the head of every response before its body is read.

    A hook and not a transport, because a client with its own transport ignores the proxy variables.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max

    async def __call__(self, response: httpx2.Response) -> None:
        if 300 <= response.status_code < 400:
            raise redirected(response.status_code)
        if is_compressed(response.headers.get("content-encoding")):
            raise compressed()
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        if response.is_error:
            response.stream = _CutStream(response.stream, ERROR_BODY_BYTES_MAX)
            return
        if _declared_bytes(response) > self._body_bytes_max:
            raise body_too_large(self._body_bytes_max)
        response.stream = _CappedStream(response.stream, self._body_bytes_max)


def redirected(status: int) -> ProviderResponseInvalid:
    """Following would carry the key and the text to an address that is not configured. Retryable,
    because gateways under maintenance redirect for a while.
    """
    return ProviderResponseInvalid(
        f"The provider responded with a redirect (HTTP {status}); "
        "the base URL must name the final address.",
        code="provider_redirected",
    )


def is_compressed(content_encoding: str | None) -> bool:
    """The client requests none. The cap counts bytes as they arrive, and a compressed body grows
    later.
    """
    return (content_encoding or "").strip().lower() not in {"", "identity"}


def compressed() -> ProviderResponseInvalid:
    return ProviderResponseInvalid("The provider sent a compressed body that was not requested.")


def _declared_bytes(response: httpx2.Response) -> int:
    declared = response.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else 0


def body_too_large(bytes_max: int) -> ProviderResponseInvalid:
    return ProviderResponseInvalid(
        f"The provider's response is larger than {bytes_max} bytes.",
        code="provider_answer_too_large",
    )


class _LimitedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, bytes_max: int) -> None:
        self._stream = stream
        self._bytes_max = bytes_max

    async def aclose(self) -> None:
        await self._stream.aclose()


class _CappedStream(_LimitedStream):
    """Raises once more than `bytes_max` bytes came."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async with aclosing(_chunks(self._stream)) as chunks:
            async for chunk in chunks:
                received += len(chunk)
                if received > self._bytes_max:
                    raise body_too_large(self._bytes_max)
                yield chunk


class _CutStream(_LimitedStream):
    """Ends quietly after `bytes_max` bytes: a long error page still yields its own error."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._bytes_max
        async with aclosing(_chunks(self._stream)) as chunks:
            async for chunk in chunks:
                yield chunk[:left]
                left -= len(chunk)
                if left <= 0:
                    return


async def _chunks(stream: httpx2.AsyncByteStream) -> AsyncGenerator[bytes, None]:
    """The stream as a generator that can be closed early instead of by the garbage collector."""
    async for chunk in stream:
        yield chunk
