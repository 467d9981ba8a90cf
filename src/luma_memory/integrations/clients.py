"""The clients of an adapter: one for threads, one for each event loop, opened when first used."""

from __future__ import annotations

import asyncio
import threading
from weakref import WeakKeyDictionary

from pydantic import SecretStr

from luma_memory.client import AsyncMemoryClient, MemoryClient


class Clients:
    """url, api_key: of the service, as the clients take them.

    A connection belongs to the event loop it was opened in, and frameworks run several.
    """

    def __init__(self, url: str, api_key: str | SecretStr | None = None) -> None:
        self._url = url
        self._api_key = api_key
        self._lock = threading.Lock()
        self._blocking: MemoryClient | None = None
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncMemoryClient] = (
            WeakKeyDictionary()
        )

    @property
    def blocking(self) -> MemoryClient:
        with self._lock:
            if self._blocking is None:
                self._blocking = MemoryClient(self._url, api_key=self._api_key)
            return self._blocking

    @property
    def asynchronous(self) -> AsyncMemoryClient:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            client = self._by_loop.get(loop)
            if client is None:
                client = AsyncMemoryClient(self._url, api_key=self._api_key)
                self._by_loop[loop] = client
            return client

    def close(self) -> None:
        """Close the blocking client. Idempotent."""
        with self._lock:
            client, self._blocking = self._blocking, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the client of the running event loop, and the blocking one. Idempotent."""
        with self._lock:
            client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()
