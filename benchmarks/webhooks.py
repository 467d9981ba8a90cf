"""Webhooks: what one costs a client that stores blocks, and how fast events are delivered."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median
from typing import Final, cast
from uuid import UUID, uuid4

import aiohttp

from benchmarks.chat import turns
from benchmarks.client import closed_loop, connections
from benchmarks.figures import Line, Round, Target, WrongResultError, compared
from benchmarks.inputs import block_request
from benchmarks.sizes import Sizes
from benchmarks.stack import Stack, waited_for
from luma_memory.domain.scope import DEFAULT_PROJECT
from luma_memory.pipeline.webhooks.deliver import CONCURRENCY

_ALLOWED: Final = {"MEMORY_WEBHOOKS_ALLOW_PRIVATE": "true"}
_RESPONSE: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_USERS: Final = 100


class Receiver(asyncio.Protocol):
    """A connection of a receiver that accepts everything, with little overhead."""

    def __init__(self, counted: list[int]) -> None:
        self._counted = counted
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not found or length is None or len(body) < int(length[1]):
            return
        self._received = body[int(length[1]) :]
        self._counted[0] += 1
        assert self._transport is not None
        self._transport.write(_RESPONSE)


@asynccontextmanager
async def _receiver() -> AsyncIterator[tuple[str, list[int]]]:
    counted = [0]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Receiver(counted), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", counted
    finally:
        server.close()


async def accepting(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """One client beside a worker, with a webhook for every block and without, in turns."""
    async with _receiver() as (url, counted), stack.worker(variables=_ALLOWED):
        rounds = []
        for number in range(sizes.rounds + 1):
            without = await _accepts(stack, sizes.accepts, seed=2 * number)
            webhook = await _add_webhook(stack, url)
            before = counted[0]
            with_one = await _accepts(stack, sizes.accepts, seed=2 * number + 1)
            await waited_for(lambda b=before: _reached(counted, b + sizes.accepts))  # type: ignore[misc]
            await stack.database.execute("DELETE FROM memory_webhooks WHERE id = $1", webhook)
            rounds.append(Round(with_one, without))
    await _clear(stack)
    return [
        compared(
            "accept_p50_webhook",
            "accept, 1 client, a webhook for each block, p50",
            rounds[1:],
            unit="ms",
            limit_name="without a webhook",
            target=Target(1.15, "low"),
        )
    ]


async def _accepts(stack: Stack, count: int, *, seed: int) -> float:
    requests = [
        block_request(turn, f"webhook-{seed}", number)
        for number, turn in enumerate(turns(count, seed=70 + seed))
    ]
    # A connection of its own: the API closes one that was idle while blocks were enriched.
    async with connections(stack.api, 1) as clients:
        load = await closed_loop(clients, requests, 202)
    await waited_for(lambda: _is_idle(stack))
    return median(response.duration_ms for response in load.responses)


async def delivering(stack: Stack, sizes: Sizes) -> Sequence[Line]:
    """Events of many users to one receiver, against the same requests of a bare client."""
    count = sizes.jobs
    rounds = []
    async with _receiver() as (url, counted), stack.worker(variables=_ALLOWED):
        webhook = await _add_webhook(stack, url)
        for _ in range(sizes.rounds + 1):
            before = counted[0]
            started = time.perf_counter()
            await stack.database.execute(
                "SELECT record_memory_events('block.active', $1, $2, $3, NULL)",
                [DEFAULT_PROJECT] * count,
                [f"user-{n % _USERS}" for n in range(count)],
                [uuid4() for _ in range(count)],
            )
            await waited_for(lambda b=before: _reached(counted, b + count), every_seconds=0.005)  # type: ignore[misc]
            rate = count / (time.perf_counter() - started)
            await waited_for(lambda: _is_delivered(stack))
            rounds.append(Round(rate, await _bare_rate(url, count)))
            if counted[0] != before + 2 * count:
                raise WrongResultError(f"{counted[0] - before - count} deliveries of {count}")
        await stack.database.execute("DELETE FROM memory_webhooks WHERE id = $1", webhook)
    await _clear(stack)
    return [
        compared(
            "webhook_deliveries",
            f"events delivered to 1 receiver, {CONCURRENCY} requests at once",
            rounds[1:],
            unit="/s",
            limit_name="a bare client, the same requests",
            target=None,
        )
    ]


async def _bare_rate(url: str, count: int) -> float:
    body, left = b"x" * 200, iter(range(count))

    async def sending(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(url, data=body) as response:
                await response.read()

    async with aiohttp.ClientSession() as session:
        started = time.perf_counter()
        await asyncio.gather(*(sending(session) for _ in range(CONCURRENCY)))
        return count / (time.perf_counter() - started)


async def _add_webhook(stack: Stack, url: str) -> UUID:
    webhook = uuid4()
    await stack.database.execute(
        "INSERT INTO memory_webhooks (id, project_id, url, created_at, updated_at)"
        " VALUES ($1, $2, $3, now(), now())",
        webhook,
        DEFAULT_PROJECT,
        url,
    )
    return webhook


async def _reached(counted: list[int], goal: int) -> bool:
    return counted[0] >= goal


async def _is_idle(stack: Stack) -> bool:
    return not await stack.database.fetch(
        "SELECT FROM memory_jobs WHERE status IN ('pending', 'processing') LIMIT 1"
    )


async def _is_delivered(stack: Stack) -> bool:
    return not await stack.database.fetch(
        "SELECT FROM memory_webhook_deliveries WHERE status = 'pending' LIMIT 1"
    )


async def _clear(stack: Stack) -> None:
    await stack.clear()
    await stack.database.execute(
        "TRUNCATE memory_webhooks, memory_events, memory_webhook_deliveries"
    )
