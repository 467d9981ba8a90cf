"""Sends calls: pooled connections, limited retries, one error hierarchy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import httpx2
from pydantic import SecretStr

from luma_memory.client.address import DEFAULT_URL, Address, credentials, limits, timeouts
from luma_memory.client.calls import Call
from luma_memory.client.responses import refusal
from luma_memory.client.retries import Attempts, Retries
from luma_memory.domain.errors import LumaMemoryError
from luma_memory.protocol.base_path import BASE_PATH


class Connection:
    """A connection pool to one service.

    base_url: the service's address, without `/api/v1/memory`. api_key: an application's key or an
    end user's token; None for a service without keys. timeout_seconds: of each wait for a response;
    `retries` limits the whole call. connections_max: concurrent connections; further calls wait for
    a free one.

    Every method raises subclasses of LumaMemoryError (see `luma_memory.client`). Closing is
    idempotent; `with` closes.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | SecretStr | None = None,
        timeout_seconds: float = 30.0,
        retries: Retries | None = None,
        connections_max: int = 20,
    ) -> None:
        self._address = Address(base_url)
        self._retries = retries or Retries()
        self._timeout_seconds = timeout_seconds
        self._http = httpx2.AsyncClient(
            base_url=self._address.url + BASE_PATH,
            headers=credentials(api_key),
            timeout=timeouts(timeout_seconds),
            limits=limits(connections_max),
            follow_redirects=False,
            trust_env=self._address.trusts_environment,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _send(self, call: Call) -> bytes:
        """The response's body."""
        async with self._opened(call) as response:
            return response.content

    @asynccontextmanager
    async def _opened(
        self, call: Call, *, streamed: bool = False
    ) -> AsyncIterator[httpx2.Response]:
        """A successful response; if `streamed`, its body is not read yet."""
        response = await self._respond(call, streamed=streamed)
        try:
            yield response
        except httpx2.TransportError as error:
            raise self._address.unreachable(error) from error
        finally:
            await response.aclose()

    async def _respond(self, call: Call, *, streamed: bool) -> httpx2.Response:
        attempts = Attempts(self._retries)
        while True:
            try:
                return await self._once(self._request(call, call.body), streamed=streamed)
            except LumaMemoryError as error:
                pause_seconds = attempts.pause_after(error, call)
                if pause_seconds is None:
                    raise
            await asyncio.sleep(pause_seconds)

    async def _upload(self, call: Call, content: AsyncIterator[bytes]) -> bytes:
        """The response's body; the request is not retried, because its content is read once."""
        response = await self._once(self._request(call, content), streamed=False)
        return response.content

    @asynccontextmanager
    async def _uploading(
        self, call: Call, content: AsyncIterator[bytes]
    ) -> AsyncIterator[httpx2.Response]:
        """As `_upload`, with a response whose body is read as it arrives."""
        response = await self._once(self._request(call, content), streamed=True)
        try:
            yield response
        except httpx2.TransportError as error:
            raise self._address.unreachable(error) from error
        finally:
            await response.aclose()

    def _request(self, call: Call, content: bytes | AsyncIterator[bytes] | None) -> httpx2.Request:
        seconds = call.timeout_seconds or self._timeout_seconds
        return self._http.build_request(
            call.method,
            call.path,
            content=content,
            headers=dict(call.headers),
            timeout=timeouts(max(seconds, self._timeout_seconds)),
        )

    async def _once(self, request: httpx2.Request, *, streamed: bool) -> httpx2.Response:
        try:
            response = await self._http.send(request, stream=streamed)
            if response.is_success:
                return response
            content = await response.aread()
        except httpx2.TransportError as error:
            raise self._address.unreachable(error) from error
        await response.aclose()
        raise refusal(
            response.status_code, content, _lower(response.headers), address=self._address.shown
        )


def _lower(headers: httpx2.Headers) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}
