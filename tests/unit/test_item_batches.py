"""Concurrent calls that share requests, without a service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from luma_memory.domain.errors import Invalid, UnavailableError
from luma_memory.integrations.clients import Clients
from luma_memory.integrations.item_batches import ItemBatches


class Service:
    """Echoes each operation once it is let go; rejects requests that have a bad one."""

    def __init__(self) -> None:
        self.requests: list[Sequence[dict[str, Any]]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def batch_items(self, operations: Sequence[dict[str, Any]], *, user_id: str) -> Any:
        assert user_id == "ada"
        self.requests.append(operations)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if any(operation["key"] == "bad" for operation in operations):
            raise Invalid("bad", code="invalid_request")
        return SimpleNamespace(results=list(operations))


def batches_of(service: Service) -> ItemBatches:
    return ItemBatches(cast("Clients", SimpleNamespace(asynchronous=service)), "ada")


async def run(batches: ItemBatches, operations: Sequence[dict[str, Any]]) -> Any:
    """The results, which are the operations themselves here."""
    return await batches.run(operations)


async def test_calls_that_wait_share_requests_and_get_their_own_results() -> None:
    service = Service()
    batches = batches_of(service)
    calls = [[{"key": f"{n}-{m}"} for m in range(n % 3 + 1)] for n in range(400)]
    running = [asyncio.create_task(run(batches, call)) for call in calls]
    await asyncio.sleep(0)
    running[7].cancel()
    service.open.set()
    results = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(results.pop(7), asyncio.CancelledError)
    assert results == [call for n, call in enumerate(calls) if n != 7]
    assert len(service.requests) < 10
    assert max(map(len, service.requests)) <= 1_000


async def test_a_wrong_call_fails_alone() -> None:
    service = Service()
    batches = batches_of(service)
    service.open.set()
    keys = ["a", "bad", "b"]
    results: list[Any] = await asyncio.gather(
        *(run(batches, [{"key": key}]) for key in keys), return_exceptions=True
    )
    assert results[0] == [{"key": "a"}]
    assert isinstance(results[1], Invalid)
    assert results[2] == [{"key": "b"}]
    with pytest.raises(Invalid):
        await batches.run([{"key": "bad"}])


async def test_an_outage_fails_the_calls_and_later_ones_work() -> None:
    service = Service()
    batches = batches_of(service)
    service.open.set()
    service.error = UnavailableError("away", code="service_unavailable")
    results = await asyncio.gather(
        *(batches.run([{"key": "a"}]) for _ in range(9)), return_exceptions=True
    )
    assert all(isinstance(result, UnavailableError) for result in results)
    service.error = None
    assert await run(batches, [{"key": "a"}]) == [{"key": "a"}]
