"""Watch the queue and the processes' output while faults are injected."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import httpx2
import pytest
from tests.support.partitions import connected_to

from luma_memory.cli.processes import Stack

RETRY_SECONDS = 60.0
Measured = Callable[[str, object], None]


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Keep a figure with the test's result."""

    def keep(name: str, value: object) -> None:
        record_property(name, value)
        print(f"measured: {name} = {value}")

    return keep


class Lines:
    """What the processes said; a sink of a stack."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, str]] = []
        self._more = asyncio.Event()

    def __call__(self, name: str, line: str) -> None:
        self.logged.append((name, line))
        self._more.set()

    async def wait_for(self, name: str, pattern: str, *, count: int = 1) -> None:
        """Until this process has said it so many times. Raises TimeoutError with what it said."""
        try:
            await self.until(lambda: self.count(name, pattern) >= count)
        except TimeoutError:
            logged = [line for who, line in self.logged if who == name]
            raise TimeoutError(f"{name} never said {pattern!r} but {logged}") from None

    async def until(self, is_reached: Callable[[], bool]) -> None:
        """Look again after every line."""
        async with asyncio.timeout(RETRY_SECONDS):
            while not is_reached():
                self._more.clear()
                await self._more.wait()

    def count(self, name: str, pattern: str) -> int:
        return sum(1 for who, line in self.logged if who == name and re.search(pattern, line))


@asynccontextmanager
async def looking_at(stack: Stack, user_id: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the home partition, or to that of a user."""
    connection: asyncpg.Connection = await (
        asyncpg.connect(stack.database_url)
        if user_id is None
        else connected_to(stack.database_url, user_id)
    )
    try:
        yield connection
    finally:
        await connection.close()


async def until_true(
    connection: asyncpg.Connection, condition: str, *values: object, seconds: float = 120.0
) -> None:
    """Wait until the SQL condition holds."""
    async with asyncio.timeout(seconds):
        while not await connection.fetchval(f"SELECT {condition}", *values):  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)


async def accept(client: httpx2.AsyncClient, *contents: str, user_id: str = "ada") -> list[str]:
    """The ids of new blocks, sent in batches."""
    ids: list[str] = []
    for start in range(0, len(contents), 1_000):
        blocks = [{"user_id": user_id, "content": text} for text in contents[start : start + 1_000]]
        response = await client.post("/blocks/batch", json={"blocks": blocks}, timeout=60)
        assert response.status_code == 202, response.text
        ids += [result["id"] for result in response.json()["results"]]
    return ids
