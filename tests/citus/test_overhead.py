"""What partitions on a Citus cluster cost on this machine, beside plain ones of the same server."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

import httpx2
import pytest
from tests.support.citus import fresh_cluster, fresh_database
from tests.support.load import client_of

from luma_memory.bootstrap.partitions import Partitions
from luma_memory.cli.processes import Stack
from luma_memory.postgres.database import Database
from luma_memory.postgres.migrator import migrate
from luma_memory.settings import load_settings

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
ROUNDS, ACCEPTED, LOADED, SEARCHED, CLIENTS, USERS = 4, 60, 300, 20, 16, 64


@asynccontextmanager
async def _plain(partitions: int) -> AsyncIterator[str]:
    async with fresh_database() as address:
        database = Database(address, pool_size=2, command_timeout_seconds=300)
        await migrate(database)
        if partitions > 1:
            await Partitions(database).create(partitions, "luma_p")
        await database.close()
        yield address


@asynccontextmanager
async def _on_nodes(partitions: int) -> AsyncIterator[str]:
    async with fresh_cluster(partitions=partitions) as cluster:
        yield cluster.address


async def _milliseconds(client: httpx2.AsyncClient, path: str, number: int, **body: str) -> float:
    began = time.perf_counter()
    response = await client.post(path, json={"user_id": f"user-{number % USERS}", **body})
    assert response.is_success, response.text
    return (time.perf_counter() - began) * 1000


async def _accept(client: httpx2.AsyncClient, number: int) -> float:
    text = f"Line {number} about a walk with the grey dog along the river bank."
    return await _milliseconds(client, "/blocks", number, content=text)


async def _rate(client: httpx2.AsyncClient, first: int) -> float:
    numbers = iter(range(first, first + LOADED))

    async def send() -> None:
        for number in numbers:
            await _accept(client, number)

    began = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(CLIENTS)))
    return LOADED / (time.perf_counter() - began)


async def _measured(services: Mapping[str, httpx2.AsyncClient]) -> dict[str, list[str]]:
    """The medians of each service: rounds of all in turn, of which the first one does not count."""
    accepts, rates, searches = (defaultdict[str, list[float]](list) for _ in range(3))
    for turn in range(ROUNDS):
        first = turn * (ACCEPTED + LOADED)
        for number in range(first, first + ACCEPTED):
            for name, client in services.items():
                accepts[name].append(await _accept(client, number))
        for name, client in services.items():
            rates[name].append(await _rate(client, first + ACCEPTED))
        for number in range(SEARCHED):
            for name, client in services.items():
                query = f"a walk along the river {turn} {number}"
                searches[name].append(await _milliseconds(client, "/search", number, query=query))
    return {
        name: [
            f"accept p50 {median(accepts[name][ACCEPTED:]):.1f} ms",
            f"{median(rates[name][1:]):.0f} blocks/s of {CLIENTS} clients",
            f"search p50 {median(searches[name][SEARCHED:]):.1f} ms",
        ]
        for name in services
    }


@pytest.mark.timeout(900)
async def test_the_cost_of_partitions_on_nodes() -> None:
    """Prints figures; they fail nothing, as they depend on the machine."""
    places = {
        "1 partition": _plain(1),
        "4 partitions": _plain(4),
        "2 partitions on nodes": _on_nodes(2),
        "4 partitions on nodes": _on_nodes(4),
    }
    async with AsyncExitStack() as opened:
        services = {}
        for name, place in places.items():
            address = await opened.enter_async_context(place)
            settings = load_settings(host="127.0.0.1", port=0, database_url=address)
            stack = Stack(settings, workers=0)
            opened.push_async_callback(stack.stop)
            await stack.start()
            services[name] = await opened.enter_async_context(client_of(stack))
        before = os.getloadavg()[0]
        for name, figures in (await _measured(services)).items():
            print(f"\n{name}: {', '.join(figures)}", end="")
        print(f"\nload {before:.1f} to {os.getloadavg()[0]:.1f}")
