"""A service that requires keys: the keys, and clients that use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from pydantic import SecretStr
from tests.support.server_faults import FaultyServer, service_on
from tests.support.servers import Servers
from tests.support.service import BASE_PATH
from tests.support.stacks import running_service

from luma_memory.bootstrap.operators import open_keys
from luma_memory.cli.processes import Stack, running_stack
from luma_memory.domain.access import Permission
from luma_memory.settings import Settings


@dataclass
class KeyedService:
    """A running service."""

    stack: Stack

    async def key(
        self, *permissions: Permission, project_id: str = "default", user_id: str | None = None
    ) -> str:
        """A new key."""
        async with open_keys(self._settings) as keys:
            _, text = await keys.create(permissions, project_id=project_id, user_id=user_id)
            return text

    async def revoke(self, text: str) -> None:
        async with open_keys(self._settings) as keys:
            await keys.revoke(text)

    @asynccontextmanager
    async def client(self, key: str | None) -> AsyncIterator[httpx2.AsyncClient]:
        """Speaks to the API with this key; paths are relative to its base path."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(
            base_url=self.stack.base_url + BASE_PATH, headers=headers, trust_env=False, timeout=30
        ) as client:
            yield client

    @property
    def _settings(self) -> Settings:
        return Settings(database_url=SecretStr(self.stack.database_url))


@asynccontextmanager
async def running_keyed_service(
    place: Servers | Path | FaultyServer, *, first_key: bool = True, **overrides: Any
) -> AsyncIterator[KeyedService]:
    """A service of its own; with a first key, so that every client needs one.

    place: the running servers, of which it gets a new database; or the data directory of a server
    of its own, which takes seconds longer; or such a server that the test breaks.
    """
    if isinstance(place, Servers):
        service = running_service(place, **overrides)
    elif isinstance(place, FaultyServer):
        service = service_on(place, workers=1, **overrides)
    else:
        service = running_stack(data_dir=place, **overrides)
    async with service as stack:
        keyed = KeyedService(stack)
        if first_key:
            await keyed.key("admin")
            async with keyed.client(None) as client:
                await _until_closed(client)
        yield keyed


@asynccontextmanager
async def beside(stack: Stack, **overrides: object) -> AsyncIterator[Stack]:
    """An API process on the same database, with other settings."""
    database_url = SecretStr(stack.database_url)
    settings = stack.settings.model_copy(update={"database_url": database_url, **overrides})
    other = Stack(settings, workers=0)
    await other.start()
    try:
        yield other
    finally:
        await other.stop()


async def _until_closed(client: httpx2.AsyncClient) -> None:
    while (await client.get("/jobs")).status_code != 401:
        pass
